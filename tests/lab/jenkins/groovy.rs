//! A small reader of declarative Jenkinsfiles: stages, their `sh` scripts, environments and the defaults of parameters. What it
//! does not know it passes over; what it can't give the meaning of (Groovy's interpolation) it refuses. It runs nothing.

use anyhow::{Context as _, bail};

/// What the lab needs of a Jenkinsfile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pipeline {
    pub(super) environment: Vec<(String, Setting)>,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) stages: Vec<Stage>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) environment: Vec<(String, Setting)>,
    pub(super) scripts: Vec<String>,
}

/// What an environment variable is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    Text(String),
    /// The id of Jenkins's credentials.
    Credentials(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(Text),
    Mark(char),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    value: String,
    /// Groovy would put values into it.
    interpolated: bool,
}

impl Pipeline {
    pub(super) fn parse(source: &str) -> anyhow::Result<Self> {
        let tokens = lex(source)?;
        let body = block(&tokens, "pipeline").context("it has no block `pipeline { … }`")?;
        let parameters = block(body, "parameters").map(parameters).unwrap_or_default();
        let mut stages = Vec::new();
        let environment = environment(body)?;
        // The pipeline's own stands before each stage's anyway.
        collect_stages(body, &[], &mut stages)?;
        Ok(Self {
            environment,
            parameters,
            stages,
        })
    }
}

/// Every stage, those in `parallel` and in other stages too; a stage's own steps only, not those of the stages in it. What is
/// set around a stage holds in it.
fn collect_stages(tokens: &[Token], around: &[(String, Setting)], found: &mut Vec<Stage>) -> anyhow::Result<()> {
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let [
            Token::Mark('('),
            Token::Text(name),
            Token::Mark(')'),
            Token::Mark('{'),
            ..,
        ] = after
        else {
            continue;
        };
        if *first != Token::Word("stage".to_owned()) {
            continue;
        }
        let (body, behind) = enclosed(after.get(3..).unwrap_or_default())?;
        let stage = &name.value;
        let reading = || format!("reading the stage `{stage}`");
        let scripts = match block(body, "steps") {
            Some(steps) => scripts(steps).with_context(reading)?,
            None => Vec::new(),
        };
        let own = environment(body).with_context(reading)?;
        let environment: Vec<_> = around.iter().cloned().chain(own).collect();
        found.push(Stage {
            name: stage.clone(),
            environment: environment.clone(),
            scripts,
        });
        collect_stages(body, &environment, found)?;
        rest = behind;
    }
    Ok(())
}

/// The scripts of `sh '…'` and `sh(script: '…')`, in order.
fn scripts(steps: &[Token]) -> anyhow::Result<Vec<String>> {
    let mut scripts = Vec::new();
    for (at, token) in steps.iter().enumerate() {
        if *token != Token::Word("sh".to_owned()) {
            continue;
        }
        let after = steps.get(at + 1..).unwrap_or_default();
        let text = match after {
            [Token::Text(text), ..] | [Token::Mark('('), Token::Text(text), ..] => Some(text),
            [Token::Mark('('), named @ ..] => {
                let mut arguments = named
                    .split(|token| *token == Token::Mark(')'))
                    .next()
                    .unwrap_or_default()
                    .windows(3);
                arguments.find_map(|window| match window {
                    [Token::Word(name), Token::Mark(':'), Token::Text(text)] if name == "script" => Some(text),
                    _ => None,
                })
            }
            _ => None,
        };
        let text = text.context("an sh step has no script that is written out")?;
        if text.interpolated {
            bail!(
                "an sh step has Groovy's interpolation (\"…${{x}}…\"); use '''…''' and let the shell read the environment"
            );
        }
        scripts.push(text.value.clone());
    }
    Ok(scripts)
}

/// `environment { NAME = 'text' }` and `NAME = credentials('id')`, directly in this block.
fn environment(body: &[Token]) -> anyhow::Result<Vec<(String, Setting)>> {
    let Some(mut rest) = block(body, "environment") else {
        return Ok(Vec::new());
    };
    let mut settings = Vec::new();
    while let [Token::Word(name), Token::Mark('='), after @ ..] = rest {
        let (setting, behind) = match after {
            [Token::Text(text), behind @ ..] if !text.interpolated => (Setting::Text(text.value.clone()), behind),
            [
                Token::Word(call),
                Token::Mark('('),
                Token::Text(id),
                Token::Mark(')'),
                behind @ ..,
            ] if call == "credentials" => (Setting::Credentials(id.value.clone()), behind),
            _ => bail!("the environment variable {name} is neither a plain text nor credentials('…')"),
        };
        settings.push((name.clone(), setting));
        rest = behind;
    }
    if !rest.is_empty() {
        bail!("the block `environment` is more than NAME = value: {:?}", rest.first());
    }
    Ok(settings)
}

/// `string(name: 'X', defaultValue: 'y')` of `parameters`.
fn parameters(body: &[Token]) -> Vec<(String, String)> {
    let named = |tokens: &[Token], wanted: &str| {
        tokens.windows(3).find_map(|window| match window {
            [Token::Word(name), Token::Mark(':'), Token::Text(text)] if name == wanted => Some(text.value.clone()),
            _ => None,
        })
    };
    body.split(|token| *token == Token::Mark(')'))
        .filter_map(|call| Some((named(call, "name")?, named(call, "defaultValue")?)))
        .collect()
}

/// What is in `name { … }`, directly in these tokens.
fn block<'t>(tokens: &'t [Token], name: &str) -> Option<&'t [Token]> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && word == name && tokens.get(at + 1) == Some(&Token::Mark('{')) => {
                return enclosed(tokens.get(at + 1..)?).ok().map(|(inside, _)| inside);
            }
            _ => {}
        }
    }
    None
}

/// Of tokens that begin with `{`: what is in the braces, and what comes behind.
fn enclosed(tokens: &[Token]) -> anyhow::Result<(&[Token], &[Token])> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((
                tokens.get(1..at).unwrap_or_default(),
                tokens.get(at + 1..).unwrap_or_default(),
            ));
        }
    }
    bail!("a `{{` is never closed")
}

fn lex(source: &str) -> anyhow::Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").context("a comment is never closed")?.1;
        } else if let Some(quote) = ["'''", "\"\"\"", "'", "\""]
            .into_iter()
            .find(|quote| rest.starts_with(quote))
        {
            let (text, behind) = quoted(rest.get(quote.len()..).unwrap_or_default(), quote)?;
            tokens.push(Token::Text(text));
            rest = behind;
        } else if first.is_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            tokens.push(Token::Word(word.to_owned()));
            rest = behind;
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    Ok(tokens)
}

/// The text up to the closing quote, as Groovy reads it, and what comes behind.
fn quoted<'s>(source: &'s str, quote: &str) -> anyhow::Result<(Text, &'s str)> {
    let mut text = Text {
        value: String::new(),
        interpolated: false,
    };
    let mut rest = source;
    loop {
        if let Some(behind) = rest.strip_prefix(quote) {
            return Ok((text, behind));
        }
        let mut chars = rest.chars();
        match chars.next().context("a text is never closed")? {
            '\\' => match chars.next().context("a text is never closed")? {
                '\n' => {}
                'n' => text.value.push('\n'),
                't' => text.value.push('\t'),
                'r' => text.value.push('\r'),
                other @ ('\\' | '\'' | '"' | '$') => text.value.push(other),
                other => bail!("Groovy knows no `\\{other}`; write `\\\\{other}` for the shell"),
            },
            '\n' if quote.len() == 1 => bail!("a text is not closed at the end of its line"),
            other => {
                text.interpolated |= other == '$' && quote.starts_with('"');
                text.value.push(other);
            }
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts_of(steps: &str) -> anyhow::Result<Vec<String>> {
        let source = format!("pipeline {{ stages {{ stage('S') {{ steps {{ {steps} }} }} }} }}");
        Ok(Pipeline::parse(&source)?.stages.remove(0).scripts)
    }

    #[test]
    fn all_ways_to_write_an_sh_step_are_read() {
        assert_eq!(scripts_of("sh 'a'").unwrap(), ["a"]);
        assert_eq!(scripts_of("sh('a')").unwrap(), ["a"]);
        assert_eq!(scripts_of(r#"sh "a""#).unwrap(), ["a"]);
        assert_eq!(
            scripts_of("sh '''a\n  'b' } \"c\"''' ; echo 'sh' ; sh 'd'").unwrap(),
            ["a\n  'b' } \"c\"", "d"]
        );
        assert_eq!(
            scripts_of("script { x = sh(returnStdout: true, script: 'a').trim() }").unwrap(),
            ["a"]
        );
    }

    #[test]
    fn backslashes_mean_what_they_mean_in_groovy() {
        assert_eq!(scripts_of("sh '''a \\\n  b \\\\d \\$x'''").unwrap(), ["a   b \\d $x"]);
        assert!(scripts_of(r"sh '\d'").is_err());
    }

    #[test]
    fn what_groovy_would_interpolate_is_refused() {
        assert!(
            scripts_of(r#"sh "echo ${VERSION}""#)
                .unwrap_err()
                .to_string()
                .contains("stage `S`")
        );
        assert_eq!(scripts_of(r#"sh "echo \$VERSION""#).unwrap(), ["echo $VERSION"]);
    }

    #[test]
    fn comments_and_texts_do_not_make_stages() {
        let source = "
            // stage('no') { steps { sh 'x' } }
            pipeline { /* stage('no') { } */
                environment { A = 'a { b' ; }
                stages { stage('yes') { steps { echo \"stage('no') {\" } } }
            }";
        let source = source.replace(" ;", "");
        let pipeline = Pipeline::parse(&source).unwrap();
        assert_eq!(
            pipeline.environment,
            [("A".to_owned(), Setting::Text("a { b".to_owned()))]
        );
        assert_eq!(
            pipeline.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["yes"]
        );
    }

    #[test]
    fn stages_in_parallel_keep_their_own_steps() {
        let source = "pipeline { stages { stage('Tests') { parallel {
            stage('a') { steps { sh '1' } }
            stage('b') { environment { K = credentials('id') } steps { sh '2' } } } } } }";
        let stages = Pipeline::parse(source).unwrap().stages;
        let found: Vec<_> = stages.iter().map(|s| (s.name.as_str(), s.scripts.clone())).collect();
        assert_eq!(
            found,
            [
                ("Tests", vec![]),
                ("a", vec!["1".to_owned()]),
                ("b", vec!["2".to_owned()])
            ]
        );
        assert_eq!(
            stages[2].environment,
            [("K".to_owned(), Setting::Credentials("id".to_owned()))]
        );
    }

    #[test]
    fn what_is_set_around_a_stage_holds_in_it() {
        let source = "pipeline { stages { stage('Outer') { environment { A = '1' } stages {
            stage('inner') { environment { B = '2' } steps { sh 'x' } } } }
            stage('other') { steps { sh 'y' } } } }";
        let stages = Pipeline::parse(source).unwrap().stages;
        let set = |at: usize| {
            stages[at]
                .environment
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!((set(0), set(1), set(2)), (vec!["A"], vec!["A", "B"], vec![]));
    }

    #[test]
    fn a_broken_file_is_an_error() {
        assert!(
            Pipeline::parse("node { sh 'x' }")
                .unwrap_err()
                .to_string()
                .contains("pipeline")
        );
        assert!(Pipeline::parse("pipeline { stages { stage('S') { ").is_err());
        assert!(Pipeline::parse("pipeline { sh 'x").is_err());
    }
}
