//! YAML as JSON values, with aliases written out.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

pub(crate) fn parse(text: &str) -> Result<Value> {
    let documents = YamlLoader::load_from_str(text)?;
    convert(documents.first().context("no document")?)
}

fn convert(yaml: &Yaml) -> Result<Value> {
    Ok(match yaml {
        Yaml::Real(text) => Value::from(text.parse::<f64>()?),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Boolean(value) => Value::from(*value),
        Yaml::Array(items) => items.iter().map(convert).collect::<Result<Vec<Value>>>()?.into(),
        Yaml::Hash(fields) => {
            let mut object = Map::new();
            for (name, value) in fields {
                object.insert(
                    name.as_str().context("a name that is no text")?.to_owned(),
                    convert(value)?,
                );
            }
            object.into()
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => bail!("YAML that can't be converted"),
    })
}
