//! The text of golden files.

use std::collections::BTreeMap;

use serde_json::Value;

/// The length up to which a value is printed in one line.
const WIDTH: usize = 120;
/// The names of the shards, without their numbers.
const SHARDS: [&str; 2] = ["sandbox_h1_", "sandbox_h2c_"];

/// JSON in which what fits into a line is in one line.
pub(crate) fn print(json: &Value) -> String {
    let mut text = String::new();
    append(&mut text, "", json);
    text.push('\n');
    text
}

fn append(text: &mut String, indentation: &str, json: &Value) {
    let line = json.to_string();
    let inner = format!("{indentation}  ");
    let (open, close, items): (_, _, Vec<(String, &Value)>) = match json {
        _ if indentation.len() + line.len() <= WIDTH => return text.push_str(&line),
        Value::Array(items) => ("[", "]", items.iter().map(|item| (String::new(), item)).collect()),
        Value::Object(fields) => {
            let key = |key: &String| format!("{}: ", Value::from(key.as_str()));
            ("{", "}", fields.iter().map(|(name, value)| (key(name), value)).collect())
        }
        _ => return text.push_str(&line),
    };
    text.push_str(open);
    for (index, (key, value)) in items.iter().enumerate() {
        text.extend([if index == 0 { "\n" } else { ",\n" }, &inner, key]);
        append(text, &inner, value);
    }
    text.extend(["\n", indentation, close]);
}

/// The values that only one of two configurations has, or that differ, by their paths.
pub(crate) fn difference(base: &Value, other: &Value) -> String {
    let (base, other) = (lines(base), lines(other));
    let mut changed: Vec<(&String, char, &String)> = Vec::new();
    for (sign, these, those) in [('-', &base, &other), ('+', &other, &base)] {
        let only = these.iter().filter(|(path, value)| those.get(*path) != Some(value));
        changed.extend(only.map(|(path, value)| (path, sign, value)));
    }
    // `-` comes before `+` in the list, and sorting is stable.
    changed.sort_by_key(|(path, ..)| *path);
    changed.iter().map(|(path, sign, value)| format!("{sign} {path}: {value}\n")).collect()
}

/// Each value by its path.
fn lines(json: &Value) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    flatten(&mut all, String::new(), json);
    let is_later_shard = |path: &String, value: &String| {
        let line = format!("{path}: {value}");
        let Some((name, number)) = shard(&line) else { return false };
        let first = |text: &str| text.replace(&format!("{name}{number}"), &format!("{name}1"));
        assert_eq!(
            all.get(&first(path)),
            Some(&first(value)),
            "{path} differs from the first shard"
        );
        number > 1
    };
    let later: Vec<_> = all.iter().filter(|(path, value)| is_later_shard(path, value)).collect();
    let later: Vec<String> = later.into_iter().map(|(path, _)| path.clone()).collect();
    for path in later {
        all.remove(&path);
    }
    all
}

fn flatten(all: &mut BTreeMap<String, String>, path: String, json: &Value) {
    match json {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                flatten(all, format!("{path}/{name}"), value);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            let names: Vec<Option<&str>> = items.iter().map(|item| item["name"].as_str()).collect();
            let names: Option<Vec<&str>> = names.into_iter().collect();
            // A list is addressed by its items' names, so that an additional item does not change the paths of the others.
            let names = names.filter(|names| {
                names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len()
            });
            if let Some(names) = &names {
                let order = names.iter().filter(|name| shard(name).is_none_or(|(_, it)| it == 1));
                let order: Vec<&str> = order.copied().collect();
                all.insert(format!("{path}[]"), order.join(", "));
            }
            for (index, item) in items.iter().enumerate() {
                let key = names.as_ref().map_or(index.to_string(), |names| names[index].to_owned());
                flatten(all, format!("{path}[{key}]"), item);
            }
        }
        _ => {
            all.insert(path, json.to_string());
        }
    }
}

/// The first shard in a text, as its name without the number, and the number.
fn shard(text: &str) -> Option<(&'static str, usize)> {
    SHARDS.into_iter().find_map(|name| {
        let (_, rest) = text.split_once(name)?;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        Some((name, digits.parse().ok()?))
    })
}
