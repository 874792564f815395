//! All routes, and their description: each handler is registered with the OpenAPI operation that stands above it, so
//! neither is without the other.

use std::sync::Arc;

use axum::Router;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

use crate::{
    Api, accounts, admin, cart, checkout, consumers, credit, events, health, items, ledger, orders, payments,
    quote, recommendations, returns, search, search_events, seller, sessions, shipments, suggestions,
    tracking,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Souk",
        description = "A marketplace whose only source of truth is a log of events. Commands take `Idempotency-Key` and \
            answer with `Souk-Position`; queries take `Souk-Min-Position` and answer when they have seen that much. \
            Errors are problems (RFC 9457) with a stable `type`."
    ),
    tags(
        (name = "Accounts"), (name = "Catalogue"), (name = "Cart"), (name = "Orders"), (name = "Selling"),
        (name = "Analysis"), (name = "Administration"), (name = "Operations"),
    ),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

fn described() -> (Router<Arc<Api>>, Document) {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::me))
        .routes(routes!(credit::mine))
        .routes(routes!(credit::on_card))
        .routes(routes!(sessions::log_in))
        .routes(routes!(sessions::refresh))
        .routes(routes!(sessions::end))
        .routes(routes!(search::search, items::list))
        .routes(routes!(items::show, items::revise))
        .routes(routes!(items::withdraw))
        .routes(routes!(items::relist))
        .routes(routes!(items::change_stock))
        .routes(routes!(suggestions::suggest))
        .routes(routes!(recommendations::related))
        .routes(routes!(recommendations::home))
        .routes(routes!(search_events::record))
        .routes(routes!(cart::show, cart::set_line))
        .routes(routes!(checkout::check_out))
        .routes(routes!(quote::quote))
        .routes(routes!(orders::list))
        .routes(routes!(orders::show))
        .routes(routes!(orders::cancel))
        .routes(routes!(tracking::track))
        .routes(routes!(seller::orders))
        .routes(routes!(seller::items))
        .routes(routes!(shipments::dispatch))
        .routes(routes!(shipments::deliver))
        .routes(routes!(shipments::give_up))
        .routes(routes!(returns::list, returns::request))
        .routes(routes!(returns::of_seller))
        .routes(routes!(returns::accept))
        .routes(routes!(returns::decline))
        .routes(routes!(ledger::show))
        .routes(routes!(ledger::payouts, ledger::request_payout))
        .routes(routes!(admin::returns::list))
        .routes(routes!(admin::returns::retry))
        .routes(routes!(admin::returns::settle))
        .routes(routes!(admin::payouts::list))
        .routes(routes!(admin::payouts::settle))
        .routes(routes!(admin::payouts::fail))
        .routes(routes!(events::read))
        .routes(routes!(consumers::list, consumers::create))
        .routes(routes!(consumers::show, consumers::delete))
        .routes(routes!(consumers::cursor::read))
        .routes(routes!(consumers::cursor::acknowledge))
        .routes(routes!(consumers::cursor::replay))
        .routes(routes!(consumers::webhook::pause))
        .routes(routes!(consumers::webhook::resume))
        .routes(routes!(consumers::webhook::rotate_secret))
        .routes(routes!(consumers::webhook::deliveries))
        .routes(routes!(admin::accounts::list))
        .routes(routes!(admin::accounts::suspend))
        .routes(routes!(admin::accounts::reinstate))
        .routes(routes!(admin::accounts::forget))
        .routes(routes!(admin::accounts::grant))
        .routes(routes!(admin::orders::list))
        .routes(routes!(admin::projections::list))
        .routes(routes!(admin::projections::rebuild))
        .routes(routes!(admin::synonyms::get))
        .routes(routes!(admin::synonyms::put))
        .routes(routes!(admin::searches::list))
        .routes(routes!(admin::checkouts::list))
        .routes(routes!(admin::checkouts::retry))
        .routes(routes!(admin::checkouts::settle))
        .routes(routes!(payments::stripe))
        .routes(routes!(payments::answer_sandbox))
        .routes(routes!(admin::promotions::list, admin::promotions::create))
        .routes(routes!(admin::promotions::show))
        .routes(routes!(admin::promotions::end))
        .routes(routes!(admin::credits::issue))
        .routes(routes!(admin::credits::grant))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .split_for_parts()
}

pub(crate) fn routes() -> Router<Arc<Api>> {
    let (router, document) = described();
    router.merge(SwaggerUi::new("/docs").url("/openapi.json", document))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_names_every_call_of_the_contract() {
        let (_, document) = described();
        let json = serde_json::to_value(&document).unwrap();
        for (path, method) in [
            ("/v1/accounts", "post"),
            ("/v1/sessions", "post"),
            ("/v1/items", "get"),
            ("/v1/items", "post"),
            ("/v1/items/{itemId}", "patch"),
            ("/v1/checkout", "post"),
            ("/v1/checkout/quote", "post"),
            ("/v1/orders/{orderId}/tracking", "get"),
            ("/v1/search-events", "post"),
            ("/v1/events", "get"),
        ] {
            assert!(json["paths"][path][method].is_object(), "{method} {path}");
        }
        assert_eq!(json["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    }

    #[test]
    fn every_call_of_consumers_is_documented() {
        let page = include_str!("../../../docs/http.md");
        let json = serde_json::to_value(described().1).unwrap();
        let paths = json["paths"].as_object().unwrap().iter();
        let mut calls = 0;
        for (path, methods) in paths.filter(|(path, _)| path.starts_with("/v1/consumers")) {
            for method in methods.as_object().unwrap().keys() {
                let call = format!("| `{} {path}` |", method.to_uppercase());
                assert!(page.contains(&call), "{call}");
                calls += 1;
            }
        }
        assert_eq!(calls, 11);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let (_, document) = described();
        let json = serde_json::to_value(&document).unwrap();
        let mut references = BTreeSet::new();
        collect(&json, &mut references);
        assert!(references.len() > 20);
        for reference in references {
            let target = json.pointer(reference.trim_start_matches('#'));
            assert!(target.is_some(), "{reference}");
        }
    }

    fn collect(json: &Value, references: &mut BTreeSet<String>) {
        match json {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    references.insert(reference.to_owned());
                }
                fields.values().for_each(|value| collect(value, references));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
