//! The graph as a page that needs nothing else: a click on a field shows what it is made from, and what from it.

use super::Part;
use super::svg::{States, drawing, escaped};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("drawing.css");
const HINT: &str = "Click a field to follow what it is made from, and what is made from it.";

/// Returns the page.
pub fn text(part: &Part<'_>, states: &States, title: &str) -> String {
    let page = PAGE.replace("{title}", &escaped(title)).replace("{told}", HINT).replace("{style}", STYLE);
    page.replace("{drawing}", &drawing(part, states))
}
