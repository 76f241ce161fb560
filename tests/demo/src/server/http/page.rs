//! The HTML page for browsers.

use crate::server::Identity;
use crate::server::answer::Answer;

/// Shows the sandbox's identity, and the record that other clients get as JSON.
pub(super) fn render(identity: &Identity, answer: &Answer) -> String {
    let title = escape(identity.name.as_deref().unwrap_or(&identity.id));
    let id = escape(&identity.id);
    let answer = escape(&answer.to_string());
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}: demo sandbox</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:3rem auto;max-width:50rem;\
         padding:0 1rem}}pre{{background:#f4f4f4;padding:1rem;overflow:auto}}</style>\n\
         <h1>{title}</h1>\n<p>This is the demo sandbox <code>{id}</code>. \
         Your request, as it arrived here:</p>\n<pre>{answer}</pre>\n</html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_text_is_escaped() {
        let identity = Identity { id: "i<d".into(), name: Some("\"n&".into()) };
        let html = render(&identity, &Answer::default().with("target", "/<script>"));
        assert!(!html.contains("<script>") && !html.contains("i<d"), "{html}");
        assert!(html.contains("<h1>&quot;n&amp;</h1>"), "{html}");
        assert!(html.contains("/&lt;script&gt;"), "{html}");
    }
}
