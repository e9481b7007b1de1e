//! From a value to a [`Flow`], with errors that tell where: each is handed out
//! through all that it stands in, and gathers the path on its way.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor,
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{
    PROBLEMS_MAX,
    refused::{Refused, any_of, list},
};
use crate::flow::{
    Flow, Input, Step,
    finding::{At, Finding, Path, Segment},
};

/// The flow that `document` stands for, or what is wrong with it: for the flow,
/// each input and each step the first thing in each of their members.
pub(super) fn flow(document: &Value) -> Result<Flow, Vec<Finding>> {
    let root = Path::default();
    let first = match read::<Flow>(document, &root) {
        Ok(flow) => return Ok(flow),
        Err(finding) => finding,
    };
    let Value::Object(members) = document else {
        return Err(vec![first]);
    };
    let mut rest = members.clone();
    let mut findings = Vec::new();
    for name in ["steps", "on_failure"] {
        let path = root.member(name);
        if let Some(Value::Array(items)) = rest.get_mut(name) {
            for (index, item) in items.drain(..).enumerate() {
                findings.extend(all_wrong::<Step>(item, &path.item(index)));
            }
        }
    }
    if let Some(Value::Object(inputs)) = rest.get_mut("inputs") {
        let path = root.member("inputs");
        for (name, input) in std::mem::take(inputs) {
            findings.extend(all_wrong::<Input>(input, &path.member(&name)));
        }
    }
    findings.extend(all_wrong::<Flow>(Value::Object(rest), &root));
    if findings.is_empty() {
        findings.push(first);
    }
    Err(findings)
}

/// What is wrong with the members of `value`: each that is refused is left out
/// for the next attempt.
fn all_wrong<T: DeserializeOwned>(mut value: Value, path: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    while let Err(finding) = read::<T>(&value, path) {
        let depth = path.segments().len();
        let member = match finding.path.segments().get(depth) {
            Some(Segment::Member(name)) => Some(name.clone()),
            _ => None,
        };
        // What is missing may be only what was left out.
        if member.is_some() || findings.is_empty() {
            findings.push(finding);
        }
        let left_out = member.and_then(|name| value.as_object_mut()?.shift_remove(&name));
        if left_out.is_none() || findings.len() > PROBLEMS_MAX {
            break;
        }
    }
    findings
}

fn read<T: DeserializeOwned>(value: &Value, path: &Path) -> Result<T, Finding> {
    T::deserialize(Node(value)).map_err(|refused| Finding {
        path: path.join(refused.way_out.into_iter().rev()),
        at: refused.at,
        message: refused.message,
    })
}

/// A value as serde reads it.
#[derive(Clone, Copy)]
struct Node<'de>(&'de Value);

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Object(members) => visitor.visit_map(Members {
                rest: members.iter(),
                value: None,
            }),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
        }
    }

    /// Generated code would take a list of values for a struct as well.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Array(_) => Err(Refused::not(&visitor, Unexpected::Seq)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            Value::Object(members) => match Choice::of(members) {
                Some(choice) => visitor.visit_enum(choice),
                None => Err(Refused::new(format!(
                    "must have exactly one of {}",
                    list(variants, "and")
                ))),
            },
            _ => Err(Refused::new(format!("must be {}", any_of(variants)))),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'de> {
    items: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Refused> {
        let index = self.next;
        let Some(item) = self.items.get(index) else {
            return Ok(None);
        };
        self.next += 1;
        seed.deserialize(Node(item))
            .map(Some)
            .map_err(|refused| refused.out_of(Segment::Item(index)))
    }
}

struct Members<'de> {
    rest: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        let Some((name, value)) = self.rest.next() else {
            return Ok(None);
        };
        self.value = Some((name, value));
        seed.deserialize(name.as_str().into_deserializer())
            .map(Some)
            .map_err(|refused: Refused| Refused {
                at: At::Name,
                ..refused.out_of(Segment::Member(name.clone()))
            })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        let Some((name, value)) = self.value.take() else {
            return Err(Refused::new("a value stands without its name".to_owned()));
        };
        seed.deserialize(Node(value))
            .map_err(|refused| refused.out_of(Segment::Member(name.to_owned())))
    }
}

/// A map with one member, whose name tells which kind of value it has.
struct Choice<'de> {
    name: &'de str,
    value: &'de Value,
}

impl<'de> Choice<'de> {
    fn of(members: &'de Map<String, Value>) -> Option<Self> {
        let mut members = members.iter();
        let (name, value) = members.next()?;
        members.next().is_none().then_some(Self { name, value })
    }

    fn inside(&self, refused: Refused) -> Refused {
        refused.out_of(Segment::Member(self.name.to_owned()))
    }
}

impl<'de> EnumAccess<'de> for Choice<'de> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Refused> {
        let variant =
            seed.deserialize(self.name.into_deserializer())
                .map_err(|refused: Refused| Refused {
                    at: At::Name,
                    ..self.inside(refused)
                })?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'de> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Err(Refused::new(format!(
            "must be the name `{}` alone",
            self.name
        )))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refused> {
        seed.deserialize(Node(self.value))
            .map_err(|refused| self.inside(refused))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Refused> {
        Node(self.value)
            .deserialize_any(visitor)
            .map_err(|refused| self.inside(refused))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        members: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        Node(self.value)
            .deserialize_struct("", members, visitor)
            .map_err(|refused| self.inside(refused))
    }
}
