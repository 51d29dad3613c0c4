//! The card's state for a reader of tests: what is set and what is left, and no secret.

use super::{Application, Card};
use crate::state::{Key, Reference};
use serde_json::{Value, json};

impl Card {
    /// Everything that a test may want to know of the card between two commands.
    pub fn summary(&self) -> Value {
        let state = &self.state;
        let slots: serde_json::Map<String, Value> =
            state.slots.iter().map(|(slot, key)| (slot.to_string(), key_summary(key))).collect();
        let objects: Vec<String> = state.objects.keys().map(|id| String::from(*id)).collect();
        json!({
            "serial": state.serial,
            "firmware": state.firmware,
            "application": self.session.application.map(Application::name),
            "pin_verified": self.session.pin_verified,
            "pin_fresh": self.session.pin_fresh,
            "management_authenticated": self.session.management,
            "pin": reference_summary(&state.pin),
            "puk": reference_summary(&state.puk),
            "management_algorithm": state.management.algorithm,
            "slots": slots,
            "objects": objects,
        })
    }
}

impl Application {
    fn name(self) -> &'static str {
        match self {
            Self::Piv => "piv",
            Self::Management => "management",
        }
    }
}

fn key_summary(key: &Key) -> Value {
    json!({
        "algorithm": key.key.algorithm(),
        "pin_policy": key.pin_policy,
        "touch_policy": key.touch_policy,
        "generated": key.generated,
    })
}

fn reference_summary(reference: &Reference) -> Value {
    json!({ "left": reference.left, "tries": reference.tries })
}
