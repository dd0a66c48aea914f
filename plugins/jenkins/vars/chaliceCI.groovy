/**
 * Runs one verb of chalice-ci in its image, in the workspace of the node that we are on.
 *
 * chaliceCI(verb: 'plan', inputs: [stage: 'prod', 'aws-region': 'eu-west-1'])
 *
 * verb     run (the default), check, plan, deploy, delete, report, ...
 * inputs   what the verb reads, by the names of docs/inputs.md
 * pass     further variables of the build that the container gets, such as CHALICE_CI_SECRET_DB_URL
 * image    the image, best with the digest of its release
 */
void call(Map given = [:]) {
  String verb = given.verb ?: 'run'
  if (!(verb ==~ /[a-z]+( [a-z]+)?/)) {
    error("chaliceCI: ${verb} is no verb of chalice-ci.")
  }
  List settings = [
    // Jenkins says neither that it is a CI system nor, outside of multibranch projects, the branch.
    'CI=true',
    "CHALICE_CI_IMAGE=${given.image ?: 'ghcr.io/org/chalice-action:1.0.0'}",
    "CHALICE_CI_VERB=${verb}",
  ]
  List names = [
    'CI', 'JENKINS_URL', 'BUILD_TAG', 'BUILD_NUMBER', 'BUILD_URL', 'GIT_COMMIT', 'GIT_BRANCH',
    'BRANCH_NAME', 'BRANCH_IS_PRIMARY', 'TAG_NAME', 'CHANGE_ID', 'CHANGE_TARGET', 'CHANGE_BRANCH',
    'CHANGE_FORK', 'CHANGE_AUTHOR', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY',
    'AWS_SESSION_TOKEN', 'AWS_REGION', 'AWS_DEFAULT_REGION', 'AWS_ENDPOINT_URL',
    'CHALICE_CI_SIGNING_KEY', 'CHALICE_CI_EVENT', 'CHALICE_CI_BASE_BRANCH', 'CHALICE_CI_FORK',
    'CHALICE_CI_DEFAULT_BRANCH',
  ]
  for (name in (given.pass ?: [])) {
    names.add(name)
  }
  for (entry in (given.inputs ?: [:])) {
    String name = 'CHALICE_CI_' + entry.key.toUpperCase().replace('-', '_')
    settings.add("${name}=${entry.value}")
    names.add(name)
  }
  for (name in names) {
    if (!(name ==~ /[A-Z][A-Z0-9_]*/)) {
      error("chaliceCI: ${name} is no name of an input or a variable.")
    }
  }
  String handed = names.collect { name -> "--env ${name}" }.join(' ')
  withEnv(settings) {
    // Values travel in the environment only, so the shell has nothing of theirs to expand.
    sh(
      label: "chalice-ci ${verb}",
      script: "docker run --rm ${handed} --volume \"\$PWD:/github/workspace\" " +
        '"$CHALICE_CI_IMAGE" $CHALICE_CI_VERB',
    )
  }
}
