// Executes a declarative Jenkinsfile without a server, once for each case, and records what it does: steps with their stage,
// agent, locks and credentials. Steps do nothing; what they answer stands in the case. It refuses what Declarative would refuse:
// directives it does not know, steps that need an agent where there is none, stages without exactly one body.
//
// Arguments: the Jenkinsfile, a file with cases as JSON, and the file to write, a JSON object: `lint`, a list of what CodeNarc
// finds, and `cases`, by name: `result`, `message`, `steps`.

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import org.codehaus.groovy.control.CompilerConfiguration
import org.codenarc.analyzer.StringSourceAnalyzer
import org.codenarc.ruleset.CompositeRuleSet
import org.codenarc.ruleset.XmlFileRuleSet

class Stop extends RuntimeException {
    String result
    Stop(String result, String message) { super(message); this.result = result }
}

class Credential { String id }

// A block of Declarative: only the named directives are known in it.
class Block {
    String where
    Set<String> known
    Map<String, List> found = [:]

    def methodMissing(String name, args) {
        if (!(name in known)) { throw new IllegalStateException("`${name}` is no directive of ${where}") }
        found.computeIfAbsent(name) { [] } << (args as List)
        name
    }

    // `agent none`, `githubPush`: a bare word.
    def propertyMissing(String name) { name }

    static Block read(String where, Closure body, String... known) {
        def block = new Block(where: where, known: known as Set)
        body = body.rehydrate(block, body.owner, body.thisObject)
        body.resolveStrategy = Closure.DELEGATE_ONLY
        body.call()
        block
    }

    Closure closure(String name) { found[name] ? found[name][0][-1] as Closure : null }
    boolean has(String name) { found.containsKey(name) }
}

// `environment { NAME = … }`.
class Settings {
    Map<String, Object> found = [:]
    Recorder run
    void setProperty(String name, Object value) { found[name] = value }
    def getProperty(String name) { name == 'found' ? found : run.variable(name) }
    def credentials(String id) { new Credential(id: id) }
}

// `env`: what is set for the whole build, under what is set around a stage.
class Env {
    Recorder run
    def getProperty(String name) { run.variable(name) }
    void setProperty(String name, Object value) { run.globals[name] = value == null ? null : value.toString() }
}

class Build { String result = null; String currentResult = 'SUCCESS'; String description }

abstract class Pipeline extends Script {
    Recorder book
    def methodMissing(String name, args) { book.step(name, args as List) }
}

class Recorder {
    Map kase
    List steps = []
    Map<String, String> globals = [:]
    List<Map<String, Object>> scopes = []
    List<String> stages = [], agents = [], locks = []
    Build build = new Build()
    boolean skipAfterUnstable = false
    Script script
    List<Integer> milestones = []

    static final NEED_AGENT = ['sh', 'readFile', 'checkout', 'archiveArtifacts', 'recordCoverage', 'cache', 'stash', 'unstash'] as Set
    static final STEPS = NEED_AGENT + ['echo', 'error', 'unstable', 'milestone', 'script', 'slackSend', 'emailext', 'culprits', 'requestor', 'arbitraryFileCache']

    def variable(String name) {
        for (scope in scopes.reverse()) { if (scope.containsKey(name)) { return scope[name] } }
        globals[name]
    }

    Map secrets() {
        def all = [:]
        scopes.each { scope -> scope.each { name, value -> if ("$value".startsWith('secret-')) { all[name] = value } } }
        all
    }

    void record(String step, Map more) {
        if (step in NEED_AGENT && !agents[-1]) { throw new IllegalStateException("the step ${step} in ${stages} needs an agent") }
        steps << ([step: step, stage: stages ? stages[-1] : null, path: stages.join('/'), agent: agents ? agents[-1] : null,
                   locks: locks.collect(), secrets: secrets().keySet().sort(),
                   environment: variable('ENVIRONMENT')] + more)
    }

    def step(String name, List args) {
        if (!(name in STEPS)) { throw new IllegalStateException("`${name}` in ${stages} is no step that is known") }
        switch (name) {
            case 'sh': return shell(args[0])
            case 'script': return perform(args[0])
            case 'error':
                record(name, [text: "${args[0]}"])
                throw new Stop('FAILURE', "${args[0]}")
            case 'unstable':
                record(name, [text: "${args[0]}"])
                build.result = 'UNSTABLE'
                return
            case 'milestone':
                int ordinal = args[0].ordinal
                if (milestones && ordinal <= milestones[-1]) { throw new IllegalStateException("milestone ${ordinal} comes after ${milestones}") }
                milestones << ordinal
                record(name, [text: "${ordinal}"])
                return
            case 'readFile':
                record(name, [text: "${args[0]}"])
                return kase.files[args[0]]
            case 'cache':
                record(name, [text: "${args[0].caches}"])
                return perform(args[1])
            case ['culprits', 'requestor', 'arbitraryFileCache']: return name
            default:
                record(name, [text: args.collect { "${it}" }.join(' ')])
        }
    }

    def shell(asked) {
        Map named = asked instanceof Map ? asked : [script: asked]
        record('sh', [text: "${named.script}", interpolated: named.script instanceof GString])
        def answer = kase.answers.find {
            named.script.contains(it.script) && (!it.environment || it.environment == variable('ENVIRONMENT'))
        } ?: [:]
        int code = answer.code ?: 0
        if (named.returnStatus) { return code }
        if (code != 0) { throw new Stop('FAILURE', "script returned exit code ${code}") }
        if (named.returnStdout) { return answer.stdout ?: '' }
    }

    // Steps are the script's methods, wherever the closure stands.
    def perform(Closure body) {
        body = body.rehydrate(script, script, script)
        body.resolveStrategy = Closure.DELEGATE_ONLY
        body.call()
    }

    Map settings(Closure body) {
        if (!body) { return [:] }
        def settings = new Settings(run: this)
        body = body.rehydrate(settings, body.owner, body.thisObject)
        body.resolveStrategy = Closure.DELEGATE_FIRST
        body.call()
        def all = [:]
        settings.found.each { name, value ->
            if (value instanceof Credential) {
                all[name] = "secret-${value.id}".toString()
                all["${name}_USR".toString()] = "user-${value.id}".toString()
                all["${name}_PSW".toString()] = "secret-${value.id}-psw".toString()
            } else { all[name] = "$value".toString() }
        }
        all
    }

    boolean holds(String name, List args) {
        switch (name) {
            case 'branch': return kase.branch == args[0]
            case 'environment': return variable(args[0].name) == args[0].value
            case 'expression': return perform(args[0])
            case 'not': return !all(args[0]).any { it }
            case 'anyOf': return all(args[0]).any { it }
            case 'allOf': return all(args[0]).every { it }
            default: return true // beforeAgent, beforeInput, beforeOptions
        }
    }

    List<Boolean> all(Closure body) {
        def block = Block.read('when', body, 'branch', 'environment', 'expression', 'not', 'anyOf', 'allOf', 'beforeAgent', 'beforeInput', 'beforeOptions')
        block.found.collectMany { name, calls -> calls.collect { holds(name, it) } }
    }

    // In the order in which Declarative does it.
    void stage(String name, Closure body) {
        def block = Block.read("the stage ${name}", body, 'agent', 'options', 'environment', 'input', 'when', 'steps', 'stages', 'parallel', 'post')
        def bodies = ['steps', 'stages', 'parallel'].findAll { block.has(it) }
        if (bodies.size() != 1) { throw new IllegalStateException("the stage ${name} has ${bodies}, not exactly one of steps, stages and parallel") }
        if (block.has('parallel') && block.has('agent')) { throw new IllegalStateException("the stage ${name} is parallel, and can have no agent") }
        if (build.result == 'UNSTABLE' && skipAfterUnstable) { return }
        def when = block.has('when') ? Block.read('when', block.closure('when'), 'branch', 'environment', 'expression', 'not', 'anyOf', 'allOf', 'beforeAgent', 'beforeInput', 'beforeOptions') : null
        if (block.has('input') && !when?.has('beforeInput')) { throw new IllegalStateException("the stage ${name} asks before it looks at `when`") }
        if (block.has('options') && when && !when.has('beforeOptions')) {
            throw new IllegalStateException("the stage ${name} takes its lock before it looks at `when`")
        }
        if (when && !when.found.collectMany { key, calls -> calls.collect { holds(key, it) } }.every { it }) { return }

        stages << name
        scopes << [:]
        def held = []
        boolean own = false
        try {
            if (block.has('options')) {
                def options = Block.read("the options of ${name}", block.closure('options'), 'lock', 'timeout', 'timestamps', 'retry')
                options.found.lock?.each { held << it[0].resource }
                locks.addAll(held)
            }
            if (block.has('input')) { ask(block.closure('input')) }
            if (block.has('agent')) {
                agents << agent(block.found.agent[0][0])
                own = true
            }
            scopes << settings(block.closure('environment'))
            if (block.has('steps')) { perform(block.closure('steps')) }
            if (block.has('stages')) { inner(block.closure('stages')) }
            if (block.has('parallel')) { inner(block.closure('parallel')) }
        } finally {
            if (own) { agents.removeLast() }
            held.each { locks.removeLast() }
            scopes = scopes.take(depth(stages.size() - 1))
            stages.removeLast()
        }
    }

    // Each stage brings two scopes, and the pipeline one.
    int depth(int stages) { 1 + 2 * stages }

    void inner(Closure body) {
        def block = Block.read('stages', body, 'stage')
        block.found.stage.each { stage(it[0] as String, it[1] as Closure) }
    }

    String agent(what) {
        if (what == 'none') { return null }
        if (what == 'any') { return 'any' }
        Block.read('agent', what, 'label').found.label[0][0]
    }

    void ask(Closure body) {
        def block = Block.read('input', body, 'message', 'ok', 'submitter', 'submitterParameter', 'id')
        record('input', [text: "${block.found.message[0][0]}", submitter: block.found.submitter?.getAt(0)?.getAt(0)])
        if (!kase.approvedBy) { throw new Stop('ABORTED', 'Rejected') }
        if (block.has('submitterParameter')) { scopes[-1][block.found.submitterParameter[0][0]] = kase.approvedBy }
    }

    void pipeline(Closure body) {
        def block = Block.read('the pipeline', body, 'agent', 'options', 'environment', 'parameters', 'triggers', 'stages', 'post', 'tools')
        ['agent', 'stages'].each { if (!block.has(it)) { throw new IllegalStateException("the pipeline has no ${it}") } }
        if (block.has('triggers')) {
            def triggers = Block.read('triggers', block.closure('triggers'), 'githubPush', 'GenericTrigger', 'cron', 'pollSCM')
            record('triggers', [text: triggers.found.keySet().join(' ')])
        }
        if (block.has('options')) {
            def options = Block.read('options', block.closure('options'), 'timestamps', 'buildDiscarder', 'logRotator',
                'parallelsAlwaysFailFast', 'skipStagesAfterUnstable', 'timeout', 'disableConcurrentBuilds')
            skipAfterUnstable = options.has('skipStagesAfterUnstable')
        }
        if (block.has('parameters')) {
            def parameters = Block.read('parameters', block.closure('parameters'), 'string', 'booleanParam', 'choice')
            parameters.found.string.each { globals[it[0].name] = (kase.parameters ?: [:])[it[0].name] ?: it[0].defaultValue }
        }
        agents << agent(block.found.agent[0][0])
        scopes << settings(block.closure('environment'))
        def stop = null
        try {
            inner(block.closure('stages'))
            build.currentResult = build.result ?: 'SUCCESS'
        } catch (Stop caught) {
            stop = caught
            build.result = build.currentResult = caught.result
        }
        stages = []
        scopes = scopes.take(1)
        if (block.has('post')) { after(block.closure('post')) }
        if (stop) { throw stop }
    }

    void after(Closure body) {
        def conditions = ['always', 'changed', 'fixed', 'regression', 'aborted', 'failure', 'success', 'unstable', 'unsuccessful', 'cleanup']
        def block = Block.read('post', body, conditions as String[])
        def result = build.currentResult
        def before = kase.before ?: 'SUCCESS'
        def now = [always: true, changed: result != before, fixed: result == 'SUCCESS' && before in ['FAILURE', 'UNSTABLE'],
                   regression: result in ['FAILURE', 'UNSTABLE', 'ABORTED'] && before == 'SUCCESS', aborted: result == 'ABORTED',
                   failure: result == 'FAILURE', success: result == 'SUCCESS', unstable: result == 'UNSTABLE',
                   unsuccessful: result != 'SUCCESS', cleanup: true]
        stages << 'post'
        conditions.findAll { block.has(it) && now[it] }.each { perform(block.closure(it)) }
    }
}

def text = new File(args[0]).text
def config = new CompilerConfiguration(scriptBaseClass: Pipeline.name)
def type = new GroovyClassLoader(this.class.classLoader, config).parseClass(text, 'Jenkinsfile')

def told = [:]
new JsonSlurper().parse(new File(args[1])).each { kase ->
    def run = new Recorder(kase: [answers: [], files: [:]] + kase)
    run.globals += [BRANCH_NAME: kase.branch, JOB_NAME: "user-service/${kase.branch}".toString(), BUILD_URL: 'https://jenkins.example.com/1/'] + (kase.env ?: [:])
    def script = type.getDeclaredConstructor().newInstance()
    script.book = run
    run.script = script
    script.binding = new Binding([env: new Env(run: run), currentBuild: run.build, scm: 'scm', params: kase.parameters ?: [:]])
    script.metaClass.pipeline = { Closure body -> run.pipeline(body) }
    def message = null
    try {
        script.run()
    } catch (Stop stop) {
        message = stop.message
    }
    told[kase.name] = [result: run.build.result ?: 'SUCCESS', message: message, steps: run.steps]
}

def rules = new CompositeRuleSet()
['basic', 'imports', 'unused', 'exceptions', 'jenkins', 'braces', 'groovyism', 'security'].each { rules.addRuleSet(new XmlFileRuleSet("rulesets/${it}.xml")) }
def lint = new StringSourceAnalyzer(text).analyze(rules).violations.collect { "line ${it.lineNumber}: ${it.rule.name}: ${it.message}".toString() }
new File(args[2]).text = JsonOutput.toJson([lint: lint, cases: told])
