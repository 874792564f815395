//! What a seller says of an item, when listing it (most of it required) and when revising it (none of it required).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Number;
use souk_commands::flows::{
    items::{NewItem, NewVariant},
    revision::{DetailsPatch, ItemPatch},
};
use souk_domain::{AccountId, Sku, item::Details};
use utoipa::ToSchema;

use crate::{
    problem::Problem,
    validation::{self, MoneyBody, Refusal, Validation, line, prose},
};

const MAX_VARIANTS: usize = 200;
const MAX_LIST: usize = 100;
const MAX_FIELDS: usize = 500;

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemRequest {
    /// Your own text; required to list an item.
    #[schema(example = "MUG-1")]
    sku: Option<String>,
    /// Required to list an item.
    #[schema(example = "A mug")]
    name: Option<String>,
    description: Option<String>,
    brand: Option<String>,
    /// The path from the root, as a list or joined by ` > `.
    #[schema(value_type = Option<Vec<String>>, example = json!(["Home", "Kitchen"]))]
    category: Option<Path>,
    tags: Option<Vec<String>>,
    /// What buyers filter by.
    #[schema(value_type = Option<BTreeMap<String, String>>, example = json!({"colour": "blue"}))]
    attributes: Option<BTreeMap<String, Scalar>>,
    /// What buyers read.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    specifications: Option<BTreeMap<String, Scalar>>,
    /// Addresses.
    images: Option<Vec<String>>,
    /// Variants without a price of their own have this one.
    price: Option<MoneyBody>,
    /// Of the item itself, which is sold beside its variants only if there is some of it.
    #[schema(value_type = Option<u32>)]
    quantity: Option<i64>,
    variants: Option<Vec<VariantRequest>>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariantRequest {
    #[schema(value_type = String, example = "MUG-1-XL")]
    sku: Option<String>,
    #[schema(value_type = Option<BTreeMap<String, String>>, example = json!({"size": "XL"}))]
    options: Option<BTreeMap<String, Scalar>>,
    price: Option<MoneyBody>,
    #[schema(value_type = Option<u32>)]
    quantity: Option<i64>,
    images: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Path {
    Names(Vec<String>),
    Joined(String),
}

/// Catalogues hold numbers and flags where we keep text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Number(Number),
    Flag(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// A request whose parts were checked one by one.
struct Checked {
    sku: Option<Sku>,
    details: DetailsPatch,
    price: Option<souk_domain::Money>,
    quantity: Option<u32>,
    variants: Vec<NewVariant>,
}

impl ItemRequest {
    pub(super) fn into_new(self, seller_id: AccountId) -> Result<NewItem, Problem> {
        let mut check = Validation::default();
        for (field, missing) in [("sku", self.sku.is_none()), ("name", self.name.is_none())] {
            if missing {
                check.fail(field, "This is required.");
            }
        }
        let variants = self.variants.as_deref().unwrap_or_default();
        // With a price for each variant the item itself needs none, unless it is sold, too.
        let unpriced = variants.is_empty()
            || variants.iter().any(|variant| variant.price.is_none())
            || self.quantity.is_some_and(|quantity| quantity > 0);
        if unpriced && self.price.is_none() {
            check.fail("price", "This is required.");
        }
        let Checked { sku, details, price, quantity, variants } = self.check(&mut check);
        let (Some(sku), Some(name), true) = (sku, details.name, check.is_clean()) else {
            return Err(check.into());
        };
        let details = Details {
            name,
            description: details.description.unwrap_or_default(),
            brand: details.brand.filter(|brand| !brand.is_empty()),
            category: details.category.unwrap_or_default(),
            tags: details.tags.unwrap_or_default(),
            attributes: details.attributes.unwrap_or_default(),
            specifications: details.specifications.unwrap_or_default(),
            images: details.images.unwrap_or_default(),
        };
        Ok(NewItem { item_id: None, seller_id, sku, details, price, quantity, variants })
    }

    pub(super) fn into_patch(self) -> Result<ItemPatch, Problem> {
        let mut check = Validation::default();
        let Checked { sku, details, price, quantity, variants } = self.check(&mut check);
        check.finish()?;
        Ok(ItemPatch { sku, details, price, quantity, variants })
    }

    fn check(self, check: &mut Validation) -> Checked {
        let sku = check.optional("sku", self.sku, validation::sku);
        let details = DetailsPatch {
            name: check.optional("name", self.name, line(1..=500)),
            description: check.optional("description", self.description, prose(0..=20_000)),
            brand: check.optional("brand", self.brand, line(0..=200)),
            category: check.optional("category", self.category, category),
            tags: texts(check, "tags", self.tags, line(1..=100)).map(BTreeSet::from_iter),
            attributes: fields(check, "attributes", self.attributes, line(0..=1_000)),
            specifications: fields(check, "specifications", self.specifications, prose(0..=10_000)),
            images: texts(check, "images", self.images, image),
        };
        let price = check.money("price", self.price);
        let quantity = check.optional("quantity", self.quantity, validation::quantity);
        let requests = self.variants.unwrap_or_default();
        if requests.len() > MAX_VARIANTS {
            check.fail("variants", format!("An item has {MAX_VARIANTS} variants at most."));
        }
        let variants: Vec<_> = requests
            .into_iter()
            .take(MAX_VARIANTS)
            .enumerate()
            .filter_map(|(index, variant)| variant.check(check, &format!("variants[{index}]")))
            .collect();
        let mut seen = BTreeSet::new();
        if let Some(twice) = variants.iter().position(|variant| !seen.insert(&variant.sku)) {
            check.fail(format!("variants[{twice}].sku"), "This SKU stands twice.");
        }
        Checked { sku, details, price, quantity, variants }
    }
}

impl VariantRequest {
    fn check(self, check: &mut Validation, field: &str) -> Option<NewVariant> {
        let sku = check.required(format!("{field}.sku"), self.sku, validation::sku);
        let options = fields(check, &format!("{field}.options"), self.options, line(1..=200));
        let price = check.money(&format!("{field}.price"), self.price);
        let quantity = check.optional(format!("{field}.quantity"), self.quantity, validation::quantity);
        let images = texts(check, &format!("{field}.images"), self.images, image);
        Some(NewVariant { sku: sku?, options: options.unwrap_or_default(), price, quantity, images })
    }
}

fn category(path: Path) -> Result<Vec<String>, Refusal> {
    let names = match path {
        Path::Names(names) => names,
        Path::Joined(text) if text.trim().is_empty() => vec![],
        Path::Joined(text) => text.split('>').map(ToOwned::to_owned).collect(),
    };
    if names.len() > 20 {
        return Err("A category is 20 names deep at most.".into());
    }
    names.into_iter().map(line(1..=100)).collect()
}

/// An address in the web, or one relative to the shop: nothing that a browser would run.
fn image(text: String) -> Result<String, Refusal> {
    let text = line(1..=2_000)(text)?;
    let scheme =
        text.split(['/', '?', '#']).next().and_then(|start| start.split_once(':')).map(|(scheme, _)| scheme);
    match scheme.map(str::to_ascii_lowercase).as_deref() {
        None | Some("http" | "https") => Ok(text),
        Some(_) => Err("An image is an address that begins with https:// or http://.".into()),
    }
}

fn texts(
    check: &mut Validation,
    field: &str,
    texts: Option<Vec<String>>,
    parse: impl Fn(String) -> Result<String, Refusal>,
) -> Option<Vec<String>> {
    let texts = texts?;
    if texts.len() > MAX_LIST {
        check.fail(field, format!("There are {MAX_LIST} of these at most."));
        return None;
    }
    let texts = texts.into_iter().enumerate();
    Some(
        texts
            .filter_map(|(index, text)| check.optional(format!("{field}[{index}]"), Some(text), &parse))
            .collect(),
    )
}

fn fields(
    check: &mut Validation,
    field: &str,
    fields: Option<BTreeMap<String, Scalar>>,
    parse: impl Fn(String) -> Result<String, Refusal>,
) -> Option<BTreeMap<String, String>> {
    let fields = fields?;
    if fields.len() > MAX_FIELDS {
        check.fail(field, format!("There are {MAX_FIELDS} of these at most."));
        return None;
    }
    let fields = fields.into_iter().filter_map(|(name, value)| {
        let path = format!("{field}.{name}");
        let name = check.optional(path.clone(), Some(name), line(1..=100));
        let value = check.optional(path, Some(value.into_text()), &parse);
        Some((name?, value?))
    });
    Some(fields.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn new(json: Value) -> Result<NewItem, Problem> {
        serde_json::from_value::<ItemRequest>(json).unwrap().into_new(AccountId(Uuid::nil()))
    }

    fn wrong(json: Value) -> Vec<String> {
        new(json).unwrap_err().errors().iter().map(|error| error.field.clone()).collect()
    }

    #[test]
    fn an_item_as_catalogues_have_them() {
        let item = new(json!({
            "sku": "A", "name": " Mug ", "category": "Home > Kitchen", "tags": ["b", "a", "b"],
            "attributes": { "colour": "blue", "weight": 1.5, "new": true }, "images": ["https://x.example/a.jpg", "/b.png"],
            "price": { "amount": 100, "currency": "USD" }, "quantity": 3,
        }))
        .unwrap();
        assert_eq!((item.details.name.as_str(), item.quantity), ("Mug", Some(3)));
        assert_eq!(item.details.category, ["Home", "Kitchen"]);
        assert_eq!(item.details.tags.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(item.details.attributes["weight"], "1.5");
        assert_eq!(item.details.attributes["new"], "true");
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        assert_eq!(wrong(json!({})), ["sku", "name", "price"]);
        let bad = json!({
            "sku": " ", "name": "", "description": "a\u{0}", "category": ["Home", ""], "tags": ["ok", ""],
            "attributes": { "": "x" }, "images": ["javascript:alert(1)"], "price": { "amount": -1, "currency": "$" },
            "quantity": -1, "variants": [{ "sku": "V", "quantity": 5_000_000_000_i64 }, { "price": {} }],
        });
        assert_eq!(
            wrong(bad),
            [
                "sku",
                "name",
                "description",
                "category",
                "tags[1]",
                "attributes.",
                "images[0]",
                "price.amount",
                "price.currency",
                "quantity",
                "variants[0].quantity",
                "variants[1].sku",
                "variants[1].price.amount",
                "variants[1].price.currency",
            ]
        );
    }

    #[test]
    fn where_a_price_is_needed() {
        let price = json!({ "amount": 5, "currency": "USD" });
        let variants = json!([{ "sku": "V", "price": price, "quantity": 1 }]);
        assert!(new(json!({ "sku": "A", "name": "N", "variants": variants })).is_ok());
        assert_eq!(wrong(json!({ "sku": "A", "name": "N", "variants": variants, "quantity": 1 })), ["price"]);
        assert_eq!(wrong(json!({ "sku": "A", "name": "N", "variants": [{ "sku": "V" }] })), ["price"]);
        let twice = json!([{ "sku": "V", "price": price }, { "sku": "V", "price": price }]);
        assert_eq!(wrong(json!({ "sku": "A", "name": "N", "variants": twice })), ["variants[1].sku"]);
    }

    #[test]
    fn a_patch_needs_nothing() {
        let patch = |json| serde_json::from_value::<ItemRequest>(json).unwrap().into_patch();
        let empty = patch(json!({})).unwrap();
        assert!(empty.quantity.is_none() && empty.price.is_none() && empty.variants.is_empty());
        let counted =
            patch(json!({ "quantity": 4, "variants": [{ "sku": "V", "quantity": 2 }, { "sku": "W" }] }))
                .unwrap();
        let of_variants: Vec<_> = counted.variants.iter().map(|variant| variant.quantity).collect();
        assert_eq!((counted.quantity, of_variants), (Some(4), vec![Some(2), None]));
        assert_eq!(patch(json!({ "name": "" })).unwrap_err().errors()[0].field, "name");
    }
}
