//! The live page at `/`: one document with its style and its scripts in it, so that it needs nothing else, and can be
//! saved. Its scripts run by a number that is made for each answer; no other script does.
//!
//! uPlot, which draws its chart, is vendored with its license (MIT) in `live/uplot`.

use std::io;

const PAGE: &str = include_str!("live/live.html");
/// What is filled in once.
const PARTS: [(&str, &str); 4] = [
    ("{{uplot.css}}", include_str!("live/uplot/uPlot.min.css")),
    ("{{live.css}}", include_str!("live/live.css")),
    ("{{uplot.js}}", include_str!("live/uplot/uPlot.iife.min.js")),
    ("{{live.js}}", include_str!("live/live.js")),
];
const NONCE: &str = "{{nonce}}";
/// Made anew each time it is read.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";

/// The page, and the policy that lets its own scripts run.
///
/// # Errors
/// If the kernel gives no random number.
pub(super) fn page() -> io::Result<(String, String)> {
    let nonce = std::fs::read_to_string(RANDOM)?.trim().replace('-', "");
    // The number goes into the page only, not into what is filled in.
    let page = PARTS.iter().fold(PAGE.replace(NONCE, &nonce), |page, (part, text)| page.replace(part, text));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok((page, policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_only_its_own_scripts_run() {
        let (page, policy) = page().unwrap();
        assert!(!page.contains("{{"), "something is not filled in");
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
        assert_eq!(nonce.len(), 32);
        assert_eq!(page.matches("<script").count(), 2);
        assert_eq!(page.matches(&format!("<script nonce=\"{nonce}\">")).count(), 2);
        assert_ne!(super::page().unwrap().1, policy, "each answer has a number of its own");
        assert!(
            !policy.contains("script-src 'unsafe-inline'") && !policy.contains("'self' 'unsafe"),
            "{policy}"
        );
    }

    #[test]
    fn it_needs_nothing_from_elsewhere_and_makes_no_markup_of_data() {
        let own = [PAGE, include_str!("live/live.css"), include_str!("live/live.js")].concat();
        for bad in [
            "http:",
            "https:",
            "src=\"",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            "document.write",
        ] {
            assert!(!own.contains(bad), "{bad}");
        }
    }
}
