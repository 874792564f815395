//! The KurrentDB gRPC protocol, served over any [`EventLog`](souk_event_log::EventLog).
