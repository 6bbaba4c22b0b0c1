//! Where images are built: the pipeline's scripts with Buildah and a storage of its own, and the images that all stories share.
//! It must not know what is in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use lab::{
    net::Net,
    process::{Output, Program},
    project_root,
};
use serde::Deserialize;

const DEADLINE: Duration = Duration::from_mins(3);
pub(crate) const VERSION: &str = "1.4.0-0123456789ab";
const BASE: &str = "localhost/serin-base:test";
/// Any time in the past.
const EPOCH: &str = "1700000000";

/// Tools, programs and the two images.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) net: Net,
    pub(crate) crun: PathBuf,
    pub(crate) registry: PathBuf,
    buildah: PathBuf,
    storage: Storage,
    pub(crate) service: Image,
    pub(crate) controller: Image,
}

/// An image, laid out as a folder.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) rootfs: PathBuf,
    pub(crate) config: Config,
}

/// What an image says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Config {
    pub(crate) user: String,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    #[serde(default)]
    pub(crate) cmd: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A home with settings of its own, for no system's configuration to have a say.
#[derive(Debug)]
struct Storage {
    folder: tempfile::TempDir,
    path: String,
}

impl Storage {
    fn new(buildah: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("making a storage for images")?;
        let root = folder.path();
        let settings = root.join(".config/containers");
        fs::create_dir_all(settings.join("registries.conf.d"))?;
        fs::write(
            settings.join("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )?;
        fs::write(
            root.join("storage.conf"),
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/images\"\nrunroot = \"{0}/run\"\n",
                root.display()
            ),
        )?;
        let tools = buildah.parent().unwrap_or(Path::new("/")).display();
        let path = format!("{tools}:{}", std::env::var("PATH").unwrap_or_default());
        Ok(Self { folder, path })
    }

    /// The environment of the pipeline's agents.
    fn env(&self) -> BTreeMap<String, String> {
        let root = self.folder.path().to_string_lossy();
        let env = [
            ("PATH", self.path.clone()),
            ("HOME", root.clone().into_owned()),
            ("TMPDIR", root.clone().into_owned()),
            ("CONTAINERS_STORAGE_CONF", format!("{root}/storage.conf")),
            ("STORAGE_DRIVER", "vfs".to_owned()),
            ("BUILDAH_ISOLATION", "chroot".to_owned()),
            ("SOURCE_DATE_EPOCH", EPOCH.to_owned()),
            ("VERSION", VERSION.to_owned()),
            ("BASE", BASE.to_owned()),
        ];
        env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    async fn script(&self, name: &str, args: &[&str], image: &str) -> anyhow::Result<Output> {
        let mut program = Program::new(project_root().join("deploy/ci").join(name));
        for (name, value) in self.env() {
            program = program.env(name, value);
        }
        program.env("IMAGE", image).args(args).output(DEADLINE).await
    }

    async fn buildah(&self, buildah: &Path, args: &[&str]) -> anyhow::Result<String> {
        let mut program = Program::new(buildah);
        for (name, value) in self.env() {
            program = program.env(name, value);
        }
        let output = program.args(args.iter().copied()).output(DEADLINE).await?;
        let text = output.text().with_context(|| format!("buildah {}", args.join(" ")))?;
        Ok(text.trim().to_owned())
    }

    /// Builds both images, and the base of one.
    async fn build(&self) -> anyhow::Result<()> {
        let steps = [
            ("image.sh", "user-service", "localhost/user-service"),
            ("base.sh", "", ""),
            ("image.sh", "serin", "localhost/serin"),
        ];
        for (script, name, image) in steps {
            let args: Vec<_> = Some(name).into_iter().filter(|name| !name.is_empty()).collect();
            let output = self.script(script, &args, image).await?;
            output.text().with_context(|| format!("deploy/ci/{script} {name}"))?;
        }
        Ok(())
    }

    async fn id(&self, buildah: &Path, image: &str) -> anyhow::Result<String> {
        let args = ["inspect", "--type", "image", "--format", "{{.FromImageDigest}}", image];
        self.buildah(buildah, &args).await
    }

    async fn image(&self, buildah: &Path, name: &str) -> anyhow::Result<Image> {
        let image = format!("localhost/{name}:{VERSION}");
        let container = self.buildah(buildah, &["from", "--pull-never", &image]).await?;
        let rootfs = self.buildah(buildah, &["mount", &container]).await?.into();
        let told = self.buildah(buildah, &["inspect", "--type", "image", &image]).await?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let config = told.pointer("/OCIv1/config").context("the image has no config")?;
        let config = Config::deserialize(config).with_context(|| format!("reading the config of {image}"))?;
        Ok(Image { rootfs, config })
    }
}

impl Workshop {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "containers need namespaces and mounts: run the tests of images as root"
        );
        for name in ["user-service", "serin"] {
            let program = project_root().join("target/image").join(name);
            ensure!(
                program.is_file(),
                "{} is absent; run tests/images/build.sh",
                program.display()
            );
        }
        let setup = Program::new(project_root().join("tests/lab/setup/images.sh"));
        let setup = setup
            .output(DEADLINE)
            .await?
            .text()
            .context("getting Buildah and crun")?;
        let mut tools = setup.lines().map(PathBuf::from);
        let mut tool = || tools.next().context("tests/lab/setup/images.sh printed too few paths");
        let (buildah, crun, registry) = (tool()?, tool()?, tool()?);
        let storage = Storage::new(&buildah)?;
        storage.build().await?;
        Ok(Self {
            service: storage.image(&buildah, "user-service").await?,
            controller: storage.image(&buildah, "serin").await?,
            net: Net::choose()?,
            crun,
            registry,
            buildah,
            storage,
        })
    }

    /// A folder that goes with the workshop.
    pub(crate) fn folder(&self) -> anyhow::Result<tempfile::TempDir> {
        tempfile::tempdir_in(self.storage.folder.path()).context("making a folder")
    }

    /// What an agent of the pipeline has in its environment.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        self.storage.env()
    }

    /// Lets Buildah speak to a registry without TLS, as the agents' settings may.
    pub(crate) fn trust(&self, registry: &str) -> anyhow::Result<()> {
        let text = format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n");
        let name = format!(
            ".config/containers/registries.conf.d/{}.conf",
            registry.replace(':', "-")
        );
        fs::write(self.storage.folder.path().join(name), text).context("writing the settings of registries")
    }

    /// Gives the service's image another name.
    pub(crate) async fn tag_service(&self, image: &str) -> anyhow::Result<()> {
        let args = [
            "tag",
            &format!("localhost/user-service:{VERSION}"),
            &format!("{image}:{VERSION}"),
        ];
        self.storage.buildah(&self.buildah, &args).await.map(drop)
    }

    /// Whether the programs are those of a release, whose size counts.
    pub(crate) fn is_release() -> anyhow::Result<bool> {
        let profile = project_root().join("target/image/profile");
        let profile = fs::read_to_string(&profile).with_context(|| format!("reading {}", profile.display()))?;
        Ok(profile.trim() == "release")
    }
}

/// The bytes of all files.
pub(crate) fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += size(&entry.path())?;
        } else if kind.is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

pub(crate) async fn two_clean_builds_give_one_digest(workshop: Arc<Workshop>) -> anyhow::Result<()> {
    let again = Storage::new(&workshop.buildah)?;
    again.build().await?;
    for name in ["user-service", "serin"] {
        let image = format!("localhost/{name}:{VERSION}");
        let first = workshop.storage.id(&workshop.buildah, &image).await?;
        let second = again.id(&workshop.buildah, &image).await?;
        ensure!(
            first.starts_with("sha256:") && first == second,
            "{name}: {first}, then {second}"
        );
    }
    Ok(())
}

pub(crate) async fn dockerfiles_have_no_findings(_: Arc<Workshop>) -> anyhow::Result<()> {
    let setup = Program::new(project_root().join("tests/lab/setup/linters.sh"));
    let setup = setup.output(DEADLINE).await?.text().context("getting hadolint")?;
    let hadolint = setup.lines().next().context("no path of hadolint")?;
    let files = ["service/Dockerfile", "controller/Dockerfile"];
    let output = Program::new(hadolint)
        .args(files)
        .dir(project_root())
        .output(DEADLINE)
        .await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
