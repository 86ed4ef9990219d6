// A web app that signs people in through Portico, with openid-client. docs/integrate-an-app.md tells how to run it.
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import * as oidc from 'openid-client'

const { ISSUER = 'http://127.0.0.1:8080', APP_URL = 'http://127.0.0.1:3000', CLIENT_ID, CLIENT_SECRET } = process.env

const execute = [oidc.enableNonRepudiationChecks] // check the ID token's signature too
if (ISSUER.startsWith('http://127.0.0.1')) execute.push(oidc.allowInsecureRequests) // a broker on this machine
const broker = await oidc.discovery(new URL(ISSUER), CLIENT_ID, CLIENT_SECRET, undefined, { execute })

const sessions = new Map() // a real app keeps them in its database, and bounds them

const routes = {
  'GET /': (_, session) => page(session?.claims
    ? `<p>${escape(session.claims.name ?? session.claims.sub)} is signed in.</p>
       <form method="post" action="/refresh"><button>Refresh</button></form>
       <form method="post" action="/logout"><button>Sign out</button></form>`
    : '<p><a href="/login">Sign in</a></p>'),

  'GET /login': async () => {
    const id = randomUUID() // a new session for each sign-in, so that nobody can plant one
    const trip = { state: oidc.randomState(), nonce: oidc.randomNonce(), verifier: oidc.randomPKCECodeVerifier() }
    sessions.set(id, { trip })
    const location = oidc.buildAuthorizationUrl(broker, {
      redirect_uri: `${APP_URL}/callback`,
      scope: 'openid profile email offline_access',
      state: trip.state,
      nonce: trip.nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(trip.verifier),
      code_challenge_method: 'S256',
    })
    return { location: location.href, cookie: `app_session=${id}; Path=/; HttpOnly; SameSite=Lax` } // with https: also Secure
  },

  'GET /callback': async (url, session) => {
    const { trip } = session ?? {}
    if (!trip) return page('<p>This sign-in was not started here.</p>')
    delete session.trip // once
    // Checks state, iss (RFC 9207), the ID token and its nonce.
    const tokens = await oidc.authorizationCodeGrant(broker, url, {
      expectedState: trip.state, expectedNonce: trip.nonce, pkceCodeVerifier: trip.verifier, idTokenExpected: true,
    })
    Object.assign(session, { claims: tokens.claims(), idToken: tokens.id_token, refreshToken: tokens.refresh_token })
    return { location: '/' }
  },

  'POST /refresh': async (_, session) => {
    const tokens = await oidc.refreshTokenGrant(broker, session.refreshToken)
    session.refreshToken = tokens.refresh_token // the one before is no good any more
    return { location: '/' }
  },

  'POST /logout': async (_, session) => {
    const location = oidc.buildEndSessionUrl(broker, { id_token_hint: session.idToken, post_logout_redirect_uri: `${APP_URL}/` })
    await oidc.tokenRevocation(broker, session.refreshToken)
    for (const key of Object.keys(session)) delete session[key]
    return { location: location.href }
  },
}

const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
const page = (body, status = 200) => ({ body: `<!doctype html><title>Example</title>${body}`, status })

createServer(async (request, response) => {
  const url = new URL(request.url, APP_URL)
  const session = sessions.get(/app_session=([\w-]+)/.exec(request.headers.cookie)?.[1])
  const route = routes[`${request.method} ${url.pathname}`]
  if (request.method === 'POST' && !session?.idToken) return response.writeHead(303, { Location: '/' }).end()
  const answer = await Promise.resolve(route?.(url, session) ?? page('<p>Not found.</p>', 404))
    .catch((e) => page(`<p>${escape(`${e.error ?? e.code ?? 'failed'}: ${e.error_description ?? e.message}`)}</p>`, 400))
  if (answer.cookie) response.setHeader('Set-Cookie', answer.cookie)
  if (answer.location) return response.writeHead(303, { Location: answer.location }).end()
  response.writeHead(answer.status, { 'Content-Type': 'text/html; charset=utf-8' }).end(answer.body)
}).listen(new URL(APP_URL).port, '127.0.0.1', () => console.log(`the app is at ${APP_URL}`))
