//! Whether an archive's links stay inside its folder.
//!
//! Owns following links through the finished tree, in which only the archive's
//! own links can be met. Pure: it looks at names, not at the disk. A link to
//! something that does not exist is fine as long as the way there stays inside.

use std::collections::HashMap;

use super::{UnpackError, refused};

/// Links that are followed for one link, as many as Linux follows for a path.
const HOPS_MAX: usize = 40;
/// What following all links of an archive may cost together, in parts of paths.
const STEPS_MAX: usize = 10_000_000;

/// A symbolic link that an archive wants.
#[derive(Debug)]
pub(super) struct Link {
    /// Where it lies, below the folder.
    pub(super) at: Vec<String>,
    /// What it says.
    pub(super) target: String,
}

/// Refuses the first link that leads out of the folder.
pub(super) fn check(links: &[Link]) -> Result<(), UnpackError> {
    let mut by_place: HashMap<&[String], &str> = HashMap::with_capacity(links.len());
    for link in links {
        if by_place.insert(&link.at, &link.target).is_some() {
            return Err(refuse(link, "the archive holds this name twice"));
        }
    }
    let mut steps = 0;
    for link in links {
        follow(link, &by_place, &mut steps).map_err(|why| refuse(link, why))?;
    }
    Ok(())
}

fn follow(
    link: &Link,
    links: &HashMap<&[String], &str>,
    steps: &mut usize,
) -> Result<(), &'static str> {
    let mut place: Vec<String> = link.at[..link.at.len().saturating_sub(1)].to_vec();
    // What is still to be walked, the next part last.
    let mut ahead: Vec<&str> = Vec::new();
    push_target(&link.target, &mut ahead)?;
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        // Looking a place up costs as much as it is deep.
        *steps += 1 + place.len();
        if *steps > STEPS_MAX {
            return Err("the archive's links are too tangled to be followed");
        }
        match part {
            "" | "." => {}
            ".." => {
                place.pop().ok_or("it is a link that leads out of the folder")?;
            }
            name => {
                place.push(name.to_owned());
                if let Some(target) = links.get(place.as_slice()) {
                    hops += 1;
                    if hops > HOPS_MAX {
                        return Err("it is a link that leads around in a circle");
                    }
                    place.pop();
                    push_target(target, &mut ahead)?;
                }
            }
        }
    }
    Ok(())
}

fn push_target<'a>(target: &'a str, ahead: &mut Vec<&'a str>) -> Result<(), &'static str> {
    if target.is_empty() || target.contains('\0') {
        return Err("it is a link to nowhere");
    }
    if target.starts_with('/') {
        return Err("it is a link to an absolute path, which leads out of the folder");
    }
    ahead.extend(target.rsplit('/'));
    Ok(())
}

fn refuse(link: &Link, why: &str) -> UnpackError {
    refused(link.at.join("/").as_bytes(), why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(links: &[(&str, &str)], expected: Result<(), &str>) {
        let all: Vec<Link> = links
            .iter()
            .map(|(at, target)| Link {
                at: at.split('/').map(str::to_owned).collect(),
                target: (*target).to_owned(),
            })
            .collect();
        match (super::check(&all), expected) {
            (Ok(()), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{links:?}: {error}");
            }
            (found, expected) => panic!("{links:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn links_inside_are_kept() {
        check(&[("a", "b")], Ok(()));
        check(&[("node_modules/.bin/x", "../x/cli.js")], Ok(()));
        check(&[("a/b/c", "../../d/./e"), ("d", "a")], Ok(()));
        check(&[("a", ".")], Ok(()));
        check(&[("missing", "no/such/../file")], Ok(()));
    }

    #[test]
    fn links_that_leave_are_refused() {
        check(&[("a", "/etc/passwd")], Err("absolute"));
        check(&[("a", "..")], Err("leads out"));
        check(&[("a/b", "../../x")], Err("leads out"));
        check(&[("a", "x/../../y")], Err("leads out"));
        check(&[("a", "")], Err("nowhere"));
    }

    #[test]
    fn a_chain_of_links_cannot_leave() {
        // Each alone looks harmless: d is the top, so d/.. is above it.
        check(&[("a/d", ".."), ("a/out", "d/../x")], Err("leads out"));
        check(&[("a/b/up", "../.."), ("l", "a/b/up/..")], Err("leads out"));
    }

    #[test]
    fn circles_and_twins_are_refused() {
        check(&[("a", "b"), ("b", "a")], Err("circle"));
        check(&[("a", "a")], Err("circle"));
        check(&[("a", "b"), ("a", "c")], Err("twice"));
    }

    #[test]
    fn doubling_chains_end() {
        let chain: Vec<(String, String)> =
            (0..60).map(|n| (format!("l{n}"), format!("l{0}/../l{0}", n + 1))).collect();
        let chain: Vec<(&str, &str)> =
            chain.iter().map(|(at, to)| (at.as_str(), to.as_str())).collect();
        check(&chain, Err("circle"));
    }
}
