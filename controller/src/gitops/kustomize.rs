//! An arm in a file of Kustomize: which keys of it belong to the arm, what revision they name, and what a new revision changes
//! in them. Pure; it must not know Git, nor how files are edited.
//!
//! Two shapes are read. A kustomization, the arm's own overlay: `images`, `configMapGenerator` and the revision's annotation in
//! `commonAnnotations`. A strategic-merge patch of the arm's Deployment: the pod template's annotations and its `spec`. What
//! else stands there (resources, name suffix, labels, replicas) is the arm's for good and goes with no revision.

use std::collections::BTreeMap;

use super::layout::Arm;
use super::values::Values;
use super::yaml::{KeyPath, Yaml, YamlError};

const REVISION: &str = "serin.dev/revision";
/// Not of the file: tells the shapes' arms apart.
const SHAPE: &str = "shape";
const IMAGES: &str = "images";
const CONFIG: &str = "configMapGenerator";
const OVERLAY: [&str; 3] = [IMAGES, CONFIG, "commonAnnotations.serin\\.dev/revision"];
const ANNOTATIONS: &str = "spec.template.metadata.annotations";
const POD: &str = "spec.template.spec";
const PATCH: [&str; 2] = [ANNOTATIONS, POD];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Overlay,
    Patch,
}

impl Shape {
    fn of(root: &Yaml) -> Result<Self, YamlError> {
        let found = match root {
            Yaml::Map(map) => match map.get("kind").and_then(Yaml::as_scalar) {
                None | Some("Kustomization") => return Ok(Self::Overlay),
                Some("Deployment") => return Ok(Self::Patch),
                Some(kind) => format!("a {kind}"),
            },
            Yaml::List(_) => "a JSON patch".to_owned(),
            other => other.kind().to_owned(),
        };
        Err(YamlError::Shape { found })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "a kustomization",
            Self::Patch => "a patch of a Deployment",
        }
    }

    /// Where the images stand.
    fn images(self) -> &'static str {
        match self {
            Self::Overlay => IMAGES,
            Self::Patch => "spec.template.spec.containers",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Overlay => &OVERLAY,
            Self::Patch => &PATCH,
        }
    }
}

/// The keys that belong to the arm.
pub(super) fn keys(root: &Yaml) -> Vec<KeyPath> {
    let keys = Shape::of(root).map(Shape::keys).unwrap_or_default();
    keys.iter().map(|key| KeyPath::parse(key)).collect()
}

/// What the arm's file says about it.
pub(super) fn arm(root: &Yaml, image: Option<&str>) -> Result<Arm, YamlError> {
    let shape = Shape::of(root)?;
    if shape == Shape::Overlay {
        only_literals(root)?;
    }
    let mut says = BTreeMap::from([(SHAPE.to_owned(), Yaml::Text(shape.name().to_owned()))]);
    for key in shape.keys() {
        if let Some(value) = root.at(&KeyPath::parse(key)) {
            says.insert((*key).to_owned(), value.clone());
        }
    }
    let says = Yaml::Map(says);
    let revision = revision(&says, shape, image);
    Ok(Arm { says, revision })
}

/// An error where one arm is a kustomization and the other a patch: nothing could be copied between them.
pub(super) fn same_shape(stable: &Yaml, canary: &Yaml) -> Result<(), YamlError> {
    let (stable, canary) = (Shape::of(stable)?, Shape::of(canary)?);
    if stable == canary {
        return Ok(());
    }
    Err(YamlError::Shape {
        found: format!("{} while stable's file is {}", canary.name(), stable.name()),
    })
}

/// The file's text with the arm as wanted, and nothing else changed.
pub(super) fn with_arm(values: &Values, wanted: &Yaml) -> Result<String, YamlError> {
    let shape = Shape::of(values.root())?;
    let of = wanted.get(SHAPE).and_then(Yaml::as_scalar).unwrap_or_default();
    if of != shape.name() {
        return Err(YamlError::Shape {
            found: format!("{} and was {of} before", shape.name()),
        });
    }
    let fields = shape
        .keys()
        .iter()
        .map(|key| (KeyPath::parse(key), wanted.get(key).cloned()));
    values.with_fields(&fields.collect::<Vec<_>>())
}

/// A file beside the kustomization goes with no revision: only what stands in the kustomization itself does.
fn only_literals(root: &Yaml) -> Result<(), YamlError> {
    let Some(Yaml::List(generators)) = root.get(CONFIG) else {
        return Ok(());
    };
    for generator in generators {
        for key in ["files", "envs", "env"] {
            let paths = match generator.get(key) {
                Some(Yaml::List(items)) => items.iter().filter_map(Yaml::as_scalar).collect(),
                Some(other) => other.as_scalar().into_iter().collect::<Vec<_>>(),
                None => continue,
            };
            // `key=path`, or the path alone.
            let own = |path: &&str| !path.rsplit('=').next().unwrap_or(path).starts_with("../");
            if let Some(path) = paths.into_iter().find(own) {
                return Err(YamlError::OwnFile {
                    key: format!("{CONFIG}.{key}"),
                    path: path.to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// The arm's revision: its annotation, else its image's tag or digest.
fn revision(says: &Yaml, shape: Shape, image: Option<&str>) -> Option<String> {
    let annotation = match shape {
        Shape::Overlay => says.get("commonAnnotations.serin\\.dev/revision"),
        Shape::Patch => says.get(ANNOTATIONS).and_then(|annotations| annotations.get(REVISION)),
    };
    if let Some(named) = annotation.and_then(Yaml::as_scalar) {
        return Some(named.to_owned());
    }
    let (key, list) = entries(says, shape)?;
    let entry = list.get(choose(key, list, image).ok()?)?;
    match shape {
        Shape::Overlay => ["digest", "newTag"]
            .iter()
            .find_map(|key| entry.get(key)?.as_scalar())
            .map(str::to_owned),
        Shape::Patch => {
            let image = entry.get("image")?.as_scalar()?;
            Some(image.get(repository(image).len() + 1..)?.to_owned())
        }
    }
}

/// What is wrong with an arm that names no revision.
pub(super) fn no_name(says: &Yaml, image: Option<&str>) -> YamlError {
    let is_patch = says.get(SHAPE).and_then(Yaml::as_scalar) == Some(Shape::Patch.name());
    let shape = if is_patch { Shape::Patch } else { Shape::Overlay };
    let (key, list) = entries(says, shape).unwrap_or((shape.images(), &[]));
    if let Err(error) = choose(key, list, image) {
        return error;
    }
    let field = if is_patch { "image (with a tag)" } else { "newTag" };
    YamlError::NoKey(format!("{key}.{field}"))
}

/// The list with the images: `images`, or the containers.
fn entries(says: &Yaml, shape: Shape) -> Option<(&'static str, &[Yaml])> {
    let list = match shape {
        Shape::Overlay => says.get(IMAGES)?,
        Shape::Patch => says.get(POD)?.get("containers")?,
    };
    let Yaml::List(items) = list else { return None };
    Some((shape.images(), items))
}

/// The entry that a revision is about.
fn choose(key: &str, list: &[Yaml], image: Option<&str>) -> Result<usize, YamlError> {
    let name = |entry: &Yaml| {
        entry
            .get("name")
            .and_then(Yaml::as_scalar)
            .unwrap_or_default()
            .to_owned()
    };
    match (image, list) {
        (Some(image), _) => list
            .iter()
            .position(|entry| name(entry) == image)
            .ok_or_else(|| YamlError::NoKey(format!("{key} (name: {image})"))),
        (None, [_]) => Ok(0),
        (None, []) => Err(YamlError::NoKey(key.to_owned())),
        (None, _) => Err(YamlError::Several {
            key: key.to_owned(),
            names: list.iter().map(name).collect::<Vec<_>>().join(", "),
        }),
    }
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or(image);
    match image.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => image,
    }
}

/// What a new revision changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewRevision<'a> {
    pub(super) name: &'a str,
    /// A tag, or a digest (`sha256:…`).
    pub(super) tag: &'a str,
    pub(super) repository: Option<&'a str>,
    /// `env.NAME` and its value.
    pub(super) set: &'a [(String, String)],
}

/// The arm as it is with a new revision.
pub(super) fn with_revision(
    root: &Yaml,
    says: &Yaml,
    image: Option<&str>,
    new: NewRevision<'_>,
) -> Result<Yaml, YamlError> {
    let shape = Shape::of(root)?;
    let Some((key, list)) = entries(says, shape) else {
        return Err(YamlError::NoKey(shape.images().to_owned()));
    };
    let (mut list, chosen) = (list.to_vec(), choose(key, list, image)?);
    if let Some(entry) = list.get_mut(chosen) {
        match shape {
            Shape::Overlay => set_image(entry, new)?,
            Shape::Patch => {
                set_container(entry, new)?;
                for (key, value) in new.set {
                    set_env(entry, env_name(key)?, value)?;
                }
            }
        }
    }
    let mut wanted = says.clone();
    let Yaml::Map(map) = &mut wanted else {
        return Ok(wanted);
    };
    let name = Yaml::Text(new.name.to_owned());
    match shape {
        Shape::Overlay => {
            map.insert(IMAGES.to_owned(), Yaml::List(list));
            map.insert("commonAnnotations.serin\\.dev/revision".to_owned(), name);
            for (key, value) in new.set {
                let generators = map.get_mut(CONFIG).ok_or_else(|| YamlError::NoKey(CONFIG.to_owned()))?;
                set_literal(generators, env_name(key)?, value)?;
            }
        }
        Shape::Patch => {
            let mut pod = map.get(POD).cloned().unwrap_or_else(|| Yaml::Map(BTreeMap::new()));
            pod.set(&KeyPath::parse("containers"), Yaml::List(list))?;
            map.insert(POD.to_owned(), pod);
            let none = || Yaml::Map(BTreeMap::new());
            let annotations = map.entry(ANNOTATIONS.to_owned()).or_insert_with(none);
            annotations.set(&KeyPath::parse("serin\\.dev/revision"), name)?;
        }
    }
    Ok(wanted)
}

fn is_digest(tag: &str) -> bool {
    tag.starts_with("sha256:")
}

fn set_image(entry: &mut Yaml, new: NewRevision<'_>) -> Result<(), YamlError> {
    let text = |text: &str| Yaml::Text(text.to_owned());
    let (key, other) = if is_digest(new.tag) {
        ("digest", "newTag")
    } else {
        ("newTag", "digest")
    };
    entry.set(&KeyPath::parse(key), text(new.tag))?;
    // Kustomize takes the digest where both stand.
    *entry = entry.without(&[KeyPath::parse(other)]);
    if let Some(repository) = new.repository
        && entry.get("name").and_then(Yaml::as_scalar) != Some(repository)
    {
        entry.set(&KeyPath::parse("newName"), text(repository))?;
    }
    Ok(())
}

fn set_container(entry: &mut Yaml, new: NewRevision<'_>) -> Result<(), YamlError> {
    let Some(image) = entry.get("image").and_then(Yaml::as_scalar) else {
        return Err(YamlError::NoKey("spec.template.spec.containers.image".to_owned()));
    };
    let repository = new.repository.unwrap_or_else(|| repository(image));
    let mark = if is_digest(new.tag) { '@' } else { ':' };
    let image = format!("{repository}{mark}{}", new.tag);
    entry.set(&KeyPath::parse("image"), Yaml::Text(image))
}

fn env_name(key: &str) -> Result<&str, YamlError> {
    key.strip_prefix("env.")
        .filter(|name| !name.is_empty() && !name.contains('='))
        .ok_or_else(|| YamlError::NotSettable(key.to_owned()))
}

fn set_env(container: &mut Yaml, name: &str, value: &str) -> Result<(), YamlError> {
    let mut list = match container.get("env") {
        Some(Yaml::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    let text = |text: &str| Yaml::Text(text.to_owned());
    let wanted = Yaml::Map(BTreeMap::from([
        ("name".to_owned(), text(name)),
        ("value".to_owned(), text(value)),
    ]));
    match list.iter_mut().find(|item| item.get("name") == Some(&text(name))) {
        Some(item) => *item = wanted,
        None => list.push(wanted),
    }
    container.set(&KeyPath::parse("env"), Yaml::List(list))
}

/// Sets a literal of the one generator.
fn set_literal(generators: &mut Yaml, name: &str, value: &str) -> Result<(), YamlError> {
    let Yaml::List(generators) = generators else {
        return Err(YamlError::NoKey(CONFIG.to_owned()));
    };
    let [generator] = generators.as_mut_slice() else {
        return Err(YamlError::NotSettable(format!("env.{name}")));
    };
    let mut list = match generator.get("literals") {
        Some(Yaml::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    let wanted = Yaml::Text(format!("{name}={value}"));
    let is_it = |item: &&mut Yaml| {
        item.as_scalar()
            .is_some_and(|text| text.split('=').next() == Some(name))
    };
    match list.iter_mut().find(is_it) {
        Some(item) => *item = wanted,
        None => list.push(wanted),
    }
    generator.set(&KeyPath::parse("literals"), Yaml::List(list))
}

#[cfg(test)]
#[path = "kustomize_tests.rs"]
mod tests;
