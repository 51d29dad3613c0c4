//! Texts with claims in them: `refs/heads/{ref}`.

use std::collections::BTreeMap;

/// Claims as texts, by the names that the map gives them.
pub(crate) type Texts = BTreeMap<String, String>;

/// Literal text with names in braces. What is put in is not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

impl Template {
    /// Reads the text of a template. `None` if a brace has no partner, or has nothing or a brace inside.
    pub(crate) fn parse(mut text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        while let Some((before, rest)) = text.split_once('{') {
            let (name, after) = rest.split_once('}')?;
            if name.is_empty() || name.contains('{') || before.contains('}') {
                return None;
            }
            parts.extend((!before.is_empty()).then(|| Part::Literal(before.to_owned())));
            parts.push(Part::Name(name.to_owned()));
            text = after;
        }
        if text.contains('}') {
            return None;
        }
        parts.extend((!text.is_empty()).then(|| Part::Literal(text.to_owned())));
        Some(Self(parts))
    }

    /// The names in it.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The text with the claims in place, or the name of the first one that is absent.
    pub(crate) fn render<'a>(&'a self, texts: &Texts) -> Result<String, &'a str> {
        self.0.iter().try_fold(String::new(), |text, part| match part {
            Part::Literal(literal) => Ok(text + literal),
            Part::Name(name) => texts.get(name).map(|value| text + value).ok_or(name.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_claim_holds_is_put_in_as_it_stands() {
        let texts = Texts::from([("a".into(), "{b}".into()), ("b".into(), "x".into())]);
        let template = Template::parse("refs/{a}/{b}.").unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(template.render(&texts).unwrap(), "refs/{b}/x.");
        assert_eq!(Template::parse("{c}").unwrap().render(&texts), Err("c"));
        for bad in ["{", "}", "{}", "{a", "a}", "{{a}}", "x}{a}"] {
            assert_eq!(Template::parse(bad), None, "{bad}");
        }
    }
}
