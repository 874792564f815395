//! The shop's synonyms: replaced as a whole, and only by others.

use souk_domain::{
    synonyms::{MAX_RULES, Synonyms, SynonymsCommand, SynonymsError, SynonymsReplaced},
    testing::Given,
};

fn replace(rules: &[&str]) -> SynonymsCommand {
    SynonymsCommand::Replace { rules: rules.iter().map(|rule| (*rule).to_owned()).collect() }
}

fn replaced(rules: &[&str]) -> SynonymsReplaced {
    SynonymsReplaced { rules: rules.iter().map(|rule| (*rule).to_owned()).collect() }
}

#[test]
fn a_list_takes_the_place_of_the_one_before() {
    Given::<Synonyms>::nothing()
        .when(replace(&[]))
        .then_nothing()
        .when(replace(&["tv, television"]))
        .then([replaced(&["tv, television"]).into()])
        .when(replace(&["tv, television"]))
        .then_nothing()
        .when(replace(&[]))
        .then([replaced(&[]).into()]);
}

#[test]
fn a_list_has_an_end() {
    Given::<Synonyms>::nothing()
        .when(replace(&vec!["a, b"; MAX_RULES + 1]))
        .then_refused(SynonymsError::TooMany)
        .when(replace(&[&"x".repeat(501)]))
        .then_refused(SynonymsError::TooLong);
}
