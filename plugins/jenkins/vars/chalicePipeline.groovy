/**
 * The pipeline of a Chalice app: branches are checked, or deployed as chalice-ci.yml says; a tag is
 * planned, a person approves, and exactly that plan is applied.
 *
 * chalicePipeline(stage: 'prod', region: 'eu-west-1', approvers: 'releasers',
 *                 planCredentials: 'aws-read', deployCredentials: 'aws-deploy')
 *
 * stage               what a tag deploys; without it a tag is as a branch
 * app                 of a repository with several apps the only one that a tag deploys
 * region              the region
 * approvers           who may approve: users and groups, with commas
 * planCredentials     the id of AWS credentials (plugin AWS Credentials) that can read
 * deployCredentials   the id of those that deploy; a pull request gets none
 * signingKey          the id of a secret text; plans are encrypted with it
 * parts               how many nodes share the apps of a branch; the default is one
 * agent               the label of nodes with Docker
 */
void call(Map given) {
  for (name in ['deployCredentials']) {
    if (!given[name]) {
      error("chalicePipeline: ${name} is missing.")
    }
  }
  String agent = given.agent ?: 'docker'
  if (!(env.TAG_NAME && given.stage)) {
    branch(given, agent)
    return
  }
  node(agent) {
    stage('Plan') {
      checkout(scm)
      credentials(given, given.planCredentials ?: given.deployCredentials) {
        kept { chaliceCI(verb: 'plan', inputs: planned(given)) }
      }
      stash(name: 'chalice-plan', includes: 'chalice-ci-out/*.plan')
    }
  }
  stage('Approve') {
    // No node waits for the person. A plan expires after 7 days.
    timeout(time: 7, unit: 'DAYS') {
      Map question = [message: "Deploy ${given.app ?: 'every app'} to ${given.stage}?", ok: 'Deploy']
      if (given.approvers) {
        question.submitter = given.approvers
      }
      input(question)
    }
  }
  node(agent) {
    stage('Deploy') {
      checkout(scm)
      unstash('chalice-plan')
      credentials(given, given.deployCredentials) {
        kept { chaliceCI(verb: 'deploy', inputs: planned(given) + [plan: 'chalice-ci-out']) }
      }
    }
  }
}

/** What the event asks for, on one node or shared by several and folded into one report. */
private void branch(Map given, String agent) {
  int parts = (given.parts ?: 1) as int
  // A pull request's code runs where its branch's Jenkinsfile says: it gets no credentials.
  String id = env.CHANGE_ID ? '' : given.deployCredentials
  if (parts == 1) {
    node(agent) {
      stage('Run') {
        checkout(scm)
        credentials(given, id) { kept { chaliceCI(verb: 'run', inputs: inputs(given)) } }
      }
    }
    return
  }
  Map jobs = [failFast: false]
  for (int each = 1; each <= parts; each++) {
    int number = each
    jobs["part ${number}"] = {
      node(agent) {
        checkout(scm)
        String out = "chalice-ci-out/part-${number}"
        Map share = [share: "${number}/${parts}", out: out, comment: 'false']
        try {
          credentials(given, id) { chaliceCI(verb: 'run', inputs: inputs(given) + share) }
        } finally {
          stash(name: "chalice-part-${number}", includes: "${out}/report.json", allowEmpty: true)
        }
      }
    }
  }
  try {
    stage('Parts') { parallel(jobs) }
  } finally {
    node(agent) {
      stage('Report') {
        checkout(scm)
        for (int each = 1; each <= parts; each++) {
          unstash("chalice-part-${each}")
        }
        kept('chalice-ci-all') {
          chaliceCI(verb: 'report', inputs: [reports: 'chalice-ci-out', out: 'chalice-ci-all'])
        }
      }
    }
  }
}

private Map inputs(Map given) {
  return given.region ? ['aws-region': given.region] : [:]
}

/** What is planned, and then deployed. */
private Map planned(Map given) {
  return inputs(given) + [stage: given.stage] + (given.app ? [app: given.app] : [:])
}

/** Runs the body with the AWS credentials of an id, and with the signing key if there is one. */
private void credentials(Map given, String id, Closure body) {
  List bindings = []
  if (id) {
    bindings.add([$class: 'AmazonWebServicesCredentialsBinding', credentialsId: id])
  }
  if (id && given.signingKey) {
    bindings.add(string(credentialsId: given.signingKey, variable: 'CHALICE_CI_SIGNING_KEY'))
  }
  withCredentials(bindings) { body() }
}

/** Runs the body, and keeps test results and reports also when it fails. */
private void kept(String out = 'chalice-ci-out', Closure body) {
  try {
    body()
  } finally {
    junit(testResults: "${out}/junit.xml", allowEmptyResults: true)
    archiveArtifacts(artifacts: 'chalice-ci-out/**, chalice-ci-all/**', allowEmptyArchive: true)
  }
}
