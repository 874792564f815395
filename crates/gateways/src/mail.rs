//! The port to the post, and an adapter that puts each message into a folder, where any mail program can open it.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use lettre::message::{Mailbox, Message, header::ContentType};
use uuid::Uuid;

use crate::GatewayError;

/// Sends mail. The same key again sends nothing.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    /// A wrong address is [`GatewayError::Invalid`] naming `to`.
    async fn send(&self, key: Uuid, message: &Mail) -> Result<(), GatewayError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `name@example.com` or `A Name <name@example.com>`.
    pub to: String,
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Writes `<key>.eml` into a folder instead of sending.
#[derive(Clone)]
pub struct MailFolder {
    folder: PathBuf,
    from: Mailbox,
    clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl MailFolder {
    /// Makes the folder if need be. `from` is an address in the form of [`Mail::to`].
    pub fn open(
        folder: &Path,
        from: &str,
        clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let from = from.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), from, clock: Arc::new(clock) })
    }

    fn message(&self, key: Uuid, mail: &Mail) -> Result<Vec<u8>, GatewayError> {
        let to: Mailbox =
            mail.to.parse().map_err(|_| GatewayError::invalid("to", "this is not a mail address"))?;
        let id = format!("<{key}@{}>", self.from.email.domain());
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&mail.subject)
            .date((self.clock)().into())
            .message_id(Some(id))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .map_err(|error| GatewayError::invalid("message", &error.to_string()))?;
        Ok(message.formatted())
    }
}

#[async_trait]
impl Mailer for MailFolder {
    async fn send(&self, key: Uuid, message: &Mail) -> Result<(), GatewayError> {
        let bytes = self.message(key, message)?;
        let (folder, file) = (self.folder.clone(), self.folder.join(format!("{key}.eml")));
        match tokio::task::spawn_blocking(move || put(&folder, &file, &bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(GatewayError::Unavailable(format!("the mail folder: {error}"))),
            Err(error) => Err(GatewayError::Unknown(format!("the mail folder: {error}"))),
        }
    }
}

/// The whole message or none of it, and the first one stays.
fn put(folder: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(bytes)?;
    match new.persist_noclobber(file) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(to: &str) -> Mail {
        Mail {
            to: to.to_owned(),
            subject: "Deine Bestellung\r\nBcc: eve@example.com".to_owned(),
            text: "Grüße vom Souk".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_message_is_put_into_the_folder_once() {
        let folder = tempfile::tempdir().unwrap();
        let mailer =
            MailFolder::open(folder.path(), "Souk <souk@example.com>", || DateTime::UNIX_EPOCH).unwrap();
        let key = Uuid::from_u128(7);
        mailer.send(key, &mail("Asha <asha@example.com>")).await.unwrap();
        mailer.send(key, &mail("other@example.com")).await.unwrap();

        let files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, [format!("{key}.eml").as_str()]);
        let text = std::fs::read_to_string(folder.path().join(&files[0])).unwrap();
        assert!(text.contains("To: Asha <asha@example.com>\r\n"), "{text}");
        assert!(text.contains(&format!("Message-ID: <{key}@example.com>\r\n")), "{text}");
        assert!(text.contains("Date: Thu, 01 Jan 1970 00:00:00"), "{text}");
        assert!(!text.contains("\r\nBcc:"), "a header came in through the subject: {text}");
    }

    #[tokio::test]
    async fn a_wrong_address_is_invalid() {
        let folder = tempfile::tempdir().unwrap();
        let mailer = MailFolder::open(folder.path(), "souk@example.com", || DateTime::UNIX_EPOCH).unwrap();
        for to in ["", "asha", "asha@example.com\r\nBcc: eve@example.com"] {
            let error = mailer.send(Uuid::nil(), &mail(to)).await.unwrap_err();
            assert!(matches!(&error, GatewayError::Invalid { field, .. } if field == "to"), "{to}: {error}");
        }
        assert!(MailFolder::open(folder.path(), "nobody", || DateTime::UNIX_EPOCH).is_err());
    }
}
