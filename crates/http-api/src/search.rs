//! Searching the catalogue. Asks the index alone: it answers while PostgreSQL or the log is down.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use souk_search::{CATEGORY_SEPARATOR, Hit, Query, SearchIndex, Sort, VariantHit};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::view,
    extract::{MinPosition, Params},
    problem::{Kind, Problem, ProblemBody},
};

/// What `facets=true` stands for.
const USUAL_FACETS: [&str; 5] = ["brand", "category", "price", "rating", "inStock"];
const LONGEST_TERM: usize = 500;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchAnswer {
    items: Vec<HitBody>,
    /// On all pages together.
    total: usize,
    next_cursor: Option<String>,
    /// Each counted as if its own filter were not set.
    facets: BTreeMap<String, Vec<FacetBody>>,
    /// What was searched for instead of what was typed.
    corrected_term: Option<String>,
    /// To name the search by when a hit is opened. Null if it is not recorded.
    search_id: Option<Uuid>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Hit)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HitBody {
    item_id: Uuid,
    sku: String,
    name: String,
    brand: Option<String>,
    /// From the root.
    category: Vec<String>,
    /// The lowest one among variants.
    price: PriceBody,
    rating: Option<f32>,
    in_stock: bool,
    image: Option<String>,
    /// HTML: escaped text with matches in `<em>`.
    highlight: Option<String>,
    /// Of an item with variants the one that fits best what was asked for.
    variant: Option<VariantHitBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = VariantHit)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariantHitBody {
    sku: String,
    options: BTreeMap<String, String>,
    price: PriceBody,
    in_stock: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Price)]
pub(crate) struct PriceBody {
    amount: i64,
    currency: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FacetCount)]
pub(crate) struct FacetBody {
    /// As the filter of the same name takes it.
    value: String,
    count: u64,
}

impl From<Hit> for HitBody {
    fn from(hit: Hit) -> Self {
        let variant = |variant: VariantHit| VariantHitBody {
            sku: variant.sku,
            options: variant.options,
            price: PriceBody { amount: variant.price, currency: hit.currency.clone() },
            in_stock: variant.in_stock,
        };
        Self {
            variant: hit.variant.map(variant),
            item_id: hit.item_id,
            sku: hit.sku,
            name: hit.name,
            brand: hit.brand,
            category: hit.category,
            price: PriceBody { amount: hit.price, currency: hit.currency },
            rating: hit.rating,
            in_stock: hit.in_stock,
            image: hit.image,
            highlight: hit.highlight,
        }
    }
}

/// Search items.
#[utoipa::path(get, path = "/v1/items", tag = "Catalogue",
    params(("term" = Option<String>, Query), ("category" = Option<String>, Query, description = "A path joined by ` > `, or the name of any ancestor."),
        ("brand" = Option<Vec<String>>, Query, description = "Any of these.", explode = true),
        ("minPrice" = Option<i64>, Query, description = "In minor units."), ("maxPrice" = Option<i64>, Query, description = "In minor units."),
        ("minRating" = Option<f32>, Query), ("seller" = Option<Uuid>, Query), ("inStock" = Option<bool>, Query),
        ("attribute" = Option<Vec<String>>, Query, description = "`key:value`, repeatable.", explode = true),
        ("sort" = Option<String>, Query, description = "`relevance`, `price`, `-price`, `newest` or `rating`."),
        ("facets" = Option<String>, Query, description = "Names joined by commas: `brand`, `category`, `price`, `seller`, `rating`, `inStock`, `attributes.KEY`; or `true` for the usual ones."),
        ("record" = Option<bool>, Query, description = "False of a search that nobody typed, or has not finished typing."),
        ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = SearchAnswer), (status = 400, body = ProblemBody),
        (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn search(
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<SearchAnswer>, Problem> {
    let typed = params.parsed("record", "true or false") != Some(false);
    let query = Arc::new(parse(params)?);
    let index = api.index()?;
    api.see(&[view::SEARCH], min).await?;
    let _turn = api.searches.acquire().await.map_err(Problem::internal)?;
    let asked = Arc::clone(&query);
    let hits =
        tokio::task::spawn_blocking(move || index.search(&asked)).await.map_err(Problem::internal)??;
    let search_id = typed.then(|| api.note_search(&query, &hits)).flatten();
    let facets = hits.facets.into_iter().map(|(name, counts)| {
        (name, counts.into_iter().map(|facet| FacetBody { value: facet.value, count: facet.count }).collect())
    });
    Ok(Json(SearchAnswer {
        items: hits.hits.into_iter().map(HitBody::from).collect(),
        total: hits.total,
        next_cursor: hits.next_cursor,
        facets: facets.collect(),
        corrected_term: hits.corrected_term,
        search_id,
    }))
}

impl Api {
    pub(crate) fn index(&self) -> Result<Arc<SearchIndex>, Problem> {
        let index = self.search.clone();
        let index = index.ok_or_else(|| Problem::unavailable("this process has no search index"))?;
        // It would find too little, and nobody could tell.
        if !index.is_ready() {
            return Err(Problem::new(Kind::Behind).retry_after(1));
        }
        Ok(index)
    }
}

fn parse(mut params: Params) -> Result<Query, Problem> {
    let term = params.text("term");
    if term.as_ref().is_some_and(|term| term.chars().count() > LONGEST_TERM) {
        params.invalid("term", format!("A term has {LONGEST_TERM} characters at most."));
    }
    let (min_price, max_price) =
        (params.number("minPrice", 0..=i64::MAX), params.number("maxPrice", 0..=i64::MAX));
    if let (Some(low), Some(high)) = (min_price, max_price)
        && low > high
    {
        params.invalid("maxPrice", "This is below minPrice.");
    }
    let min_rating = params.read(
        "minRating",
        |text| text.parse().ok().filter(|rating: &f32| rating.is_finite()),
        "a number",
    );
    if min_rating.is_some_and(|rating| !(0.0..=5.0).contains(&rating)) {
        params.invalid("minRating", "A rating is between 0 and 5.");
    }
    let mut attributes = Vec::new();
    for attribute in params.all("attribute") {
        match attribute.split_once(':') {
            Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                attributes.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            _ => params.malformed("attribute", "An attribute is written key:value."),
        }
    }
    let (seller, in_stock) = (params.parsed("seller", "an id"), params.parsed("inStock", "true or false"));
    let sort = params.read("sort", sort, "relevance, price, -price, newest or rating").unwrap_or_default();
    let (cursor, size) = params.page();
    let query = Query {
        term,
        category: params
            .text("category")
            .map(|path| path.split('>').map(str::trim).collect::<Vec<_>>().join(CATEGORY_SEPARATOR)),
        brand: params.all("brand"),
        min_price,
        max_price,
        min_rating,
        seller,
        in_stock,
        attributes,
        sort,
        facets: facets(&params.all("facets")),
        cursor,
        size: size as usize,
    };
    params.finish()?;
    Ok(query)
}

fn sort(text: &str) -> Option<Sort> {
    Some(match text {
        "relevance" => Sort::Relevance,
        "price" => Sort::Price,
        "-price" => Sort::PriceDesc,
        "newest" => Sort::Newest,
        "rating" => Sort::Rating,
        _ => return None,
    })
}

fn facets(given: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in given.iter().flat_map(|list| list.split(',')).map(str::trim) {
        let usual: &[&str] = if name == "true" { &USUAL_FACETS } else { &[] };
        let plain = (!matches!(name, "" | "true" | "false")).then_some(name);
        for name in usual.iter().copied().chain(plain) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let query = parse(Params::parse(
            "term=red+shoe&brand=A&brand=B&category=Home%3EShoes&minPrice=100&inStock=true&attribute=size:42&attribute=ratio:16:9&sort=-price&facets=brand,attributes.size&size=5",
        ))
        .unwrap();
        assert_eq!(query.term.as_deref(), Some("red shoe"));
        assert_eq!(query.category.as_deref(), Some("Home > Shoes"));
        assert_eq!((query.brand.len(), query.min_price, query.in_stock), (2, Some(100), Some(true)));
        assert_eq!(query.attributes, [("size".into(), "42".into()), ("ratio".into(), "16:9".into())]);
        assert_eq!((query.sort, query.size), (Sort::PriceDesc, 5));
        assert_eq!(query.facets, ["brand", "attributes.size"]);
    }

    #[test]
    fn what_cannot_be_understood_is_malformed() {
        for query in [
            "sort=cheap",
            "minPrice=x",
            "minPrice=1.5",
            "inStock=yes",
            "seller=me",
            "attribute=red",
            "size=x",
            "minRating=NaN",
        ] {
            assert_eq!(parse(Params::parse(query)).unwrap_err().kind(), Kind::Malformed, "{query}");
        }
        for query in ["size=0", "size=101", "minPrice=-1", "minRating=6", "minPrice=2&maxPrice=1"] {
            assert_eq!(parse(Params::parse(query)).unwrap_err().kind(), Kind::InvalidParameters, "{query}");
        }
    }

    #[test]
    fn facets_by_name() {
        let names = |given: &str| facets(&[given.to_owned()]);
        assert_eq!(names("true"), USUAL_FACETS);
        assert_eq!(names("brand, brand,,price"), ["brand", "price"]);
        assert!(names("false").is_empty());
    }
}
