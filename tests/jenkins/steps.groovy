/*
 * The steps of Jenkins that the library uses, after their references on jenkins.io ("Pipeline
 * Steps Reference": Basic Steps, Nodes and Processes, SCM Step, Input Step, JUnit, Credentials
 * Binding). Each takes only the parameters that its reference names. `sh` runs a shell for real in
 * the workspace of the node, stashes are copied, a node's workspace is new.
 *
 * groovy steps.groovy SCENARIO.json: prints what happened as JSON, one event a line, to `events`.
 */
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.nio.file.StandardCopyOption
import javax.xml.parsers.DocumentBuilderFactory

class Aborted extends Exception { Aborted(String text) { super(text) } }
class Failed extends Exception { Failed(String text) { super(text) } }

class Jenkins {
  Map scenario
  Path root
  File events
  List<Path> workspaces = []
  List<Map<String, String>> layers = []
  Map<String, Path> stashes = [:]
  int made = 0

  Jenkins(Map scenario) {
    this.scenario = scenario
    root = Paths.get(scenario.root)
    events = new File((String) scenario.events)
    layers.add([:] + scenario.env)
  }

  void say(Map event) { events << JsonOutput.toJson(event) + '\n' }

  void known(String step, Map given, List<String> names) {
    def unknown = given.keySet() - names
    if (unknown) { throw new Failed("${step} has no ${unknown}") }
  }

  Path here() {
    if (!workspaces) { throw new Failed('this step needs a node') }
    return workspaces.last()
  }

  Map<String, String> environment() { layers.collectMany { it.entrySet() as List }.collectEntries() }

  Object within(Map<String, String> variables, Closure body) {
    layers.add(variables)
    try { return body.call() } finally { layers.remove(layers.size() - 1) }
  }

  Object node(String label, Closure body) {
    if (workspaces) { throw new Failed('a node inside a node holds two') }
    Path place = root.resolve("node-${++made}")
    Files.createDirectories(place)
    say([step: 'node', label: label])
    workspaces.add(place)
    try { return body.call() } finally { workspaces.remove(workspaces.size() - 1) }
  }

  Object stage(String name, Closure body) { say([step: 'stage', name: name]); return body.call() }

  void checkout(Object source) {
    copy(Paths.get((String) source.repository), here(), '**')
    say([step: 'checkout'])
  }

  int sh(Map given) {
    known('sh', given, ['script', 'label', 'returnStatus', 'returnStdout', 'encoding'])
    def builder = new ProcessBuilder('/bin/sh', '-xe', '-c', (String) given.script)
    builder.directory(here().toFile()).redirectErrorStream(true)
    builder.environment().clear()
    builder.environment().putAll(environment())
    def process = builder.start()
    String said = process.inputStream.getText('UTF-8')
    int code = process.waitFor()
    say([step: 'sh', label: given.label, code: code, said: said])
    if (code && !given.returnStatus) { throw new Failed("script returned exit code ${code}") }
    return code
  }

  Object input(Map given) {
    known('input', given, ['message', 'ok', 'submitter', 'submitterParameter', 'id', 'parameters'])
    if (workspaces) { throw new Failed('a node waits for a person') }
    say([step: 'input', message: given.message, submitter: given.submitter])
    if (!scenario.approved) { throw new Aborted('Rejected by a person') }
    return null
  }

  Object timeout(Map given, Closure body) {
    known('timeout', given, ['time', 'unit', 'activity'])
    say([step: 'timeout', time: given.time, unit: given.unit])
    return body.call()
  }

  void stash(Map given) {
    known('stash', given, ['name', 'includes', 'excludes', 'allowEmpty', 'useDefaultExcludes'])
    Path kept = root.resolve("stash-${given.name}")
    int count = copy(here(), kept, (String) given.includes)
    if (!count && !given.allowEmpty) { throw new Failed("No files included in stash ${given.name}") }
    stashes[(String) given.name] = kept
    say([step: 'stash', name: given.name, files: count])
  }

  void unstash(String name) {
    if (!stashes[name]) { throw new Failed("No such saved stash ${name}") }
    copy(stashes[name], here(), '**')
  }

  void junit(Map given) {
    known('junit', given, ['testResults', 'allowEmptyResults', 'skipPublishingChecks'])
    Path file = here().resolve((String) given.testResults)
    if (!Files.exists(file)) {
      if (!given.allowEmptyResults) { throw new Failed('No test report files were found') }
      return
    }
    def read = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(file.toFile())
    say([step: 'junit', failures: read.documentElement.getAttribute('failures')])
  }

  void archiveArtifacts(Map given) {
    known('archiveArtifacts', given, ['artifacts', 'allowEmptyArchive', 'fingerprint', 'excludes'])
    int count = ((String) given.artifacts).split(',').sum { pattern ->
      copy(here(), root.resolve('archive'), pattern.trim())
    }
    if (!count && !given.allowEmptyArchive) { throw new Failed('No artifacts found') }
    say([step: 'archiveArtifacts', files: count])
  }

  Object withCredentials(List bindings, Closure body) {
    Map<String, String> found = [:]
    for (Map binding in bindings) {
      def stored = scenario.credentials[(String) binding.credentialsId]
      if (stored == null) { throw new Failed("Could not find credentials ${binding.credentialsId}") }
      if (stored instanceof Map) { found += stored } else { found[(String) binding.variable] = stored }
    }
    say([step: 'withCredentials', ids: bindings*.credentialsId])
    return within(found, body)
  }

  Object withEnv(List settings, Closure body) {
    within(settings.collectEntries { def pair = it.toString().split('=', 2); [pair[0], pair[1]] }, body)
  }

  void parallel(Map jobs) {
    def failures = []
    // One after the other: what they share is the same, and their order is nobody's business.
    jobs.findAll { it.key != 'failFast' }.each { name, body ->
      say([step: 'branch', name: name])
      try { body.call() } catch (Failed problem) { failures.add(problem) }
    }
    if (failures) { throw failures[0] }
  }

  int copy(Path from, Path to, String pattern) {
    if (!Files.exists(from)) { return 0 }
    def matcher = from.fileSystem.getPathMatcher("glob:${pattern}")
    int count = 0
    from.toFile().eachFileRecurse(groovy.io.FileType.FILES) { file ->
      Path inside = from.relativize(file.toPath())
      if (matcher.matches(inside)) {
        Path target = to.resolve(inside.toString())
        Files.createDirectories(target.parent)
        Files.copy(file.toPath(), target, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.COPY_ATTRIBUTES)
        count++
      }
    }
    return count
  }
}

def scenario = new JsonSlurper().parse(new File(args[0]))
def jenkins = new Jenkins(scenario)
def binding = new Binding()
def variables = [:]
new File((String) scenario.library).listFiles().findAll { it.name.endsWith('.groovy') }.each { file ->
  def script = new GroovyShell(binding).parse(file)
  // A library's variable is called by its name: `call` is what runs.
  binding.setVariable(file.name - '.groovy', script)
  variables[file.name - '.groovy'] = script
}
binding.setVariable('env', scenario.env)
binding.setVariable('scm', [repository: scenario.repository])
for (name in ['node', 'stage', 'timeout', 'withCredentials', 'withEnv']) {
  String step = name
  binding.setVariable(step, { Object given, Closure body -> jenkins."$step"(given, body) })
}
for (name in ['checkout', 'sh', 'input', 'stash', 'unstash', 'junit', 'archiveArtifacts', 'parallel']) {
  String step = name
  binding.setVariable(step, { Object given -> jenkins."$step"(given) })
}
binding.setVariable('string', { Map given -> given })
binding.setVariable('error', { Object text -> throw new Failed(text.toString()) })
try {
  String text = new File((String) scenario.jenkinsfile).text
  assert text =~ /(?m)^@Library\('[^']+'\) _$/
  // Jenkins loads the library for this line; here it is loaded already.
  new GroovyShell(binding).evaluate(text.replaceFirst(/(?m)^@Library.*$/, ''))
  jenkins.say([result: 'SUCCESS'])
} catch (Aborted problem) {
  jenkins.say([result: 'ABORTED', why: problem.message])
} catch (Failed problem) {
  jenkins.say([result: 'FAILURE', why: problem.message])
}
