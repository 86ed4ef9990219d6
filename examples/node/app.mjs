// A web app in Node that signs people in through Portico with openid-client (npm install openid-client@6).
//   ISSUER=http://127.0.0.1:8080 CLIENT_ID=… CLIENT_SECRET=… node app.mjs
// Register it with the redirect URI http://127.0.0.1:3000/callback.
import http from 'node:http'
import crypto from 'node:crypto'
import * as client from 'openid-client'

const { ISSUER, CLIENT_ID, CLIENT_SECRET, PORT = '3000' } = process.env
const self = `http://127.0.0.1:${PORT}`
const issuer = new URL(ISSUER)
const options = issuer.protocol === 'http:' ? { execute: [client.allowInsecureRequests] } : {} // for a broker on this machine
const config = await client.discovery(issuer, CLIENT_ID, CLIENT_SECRET, undefined, options)
const visits = new Map() // a real app keeps its sessions elsewhere

function visit(request, response) {
  const id = /(?:^|; )node_app=([^;]+)/.exec(request.headers.cookie ?? '')?.[1]
  if (visits.has(id)) return visits.get(id)
  const fresh = crypto.randomUUID()
  visits.set(fresh, {})
  response.setHeader('Set-Cookie', `node_app=${fresh}; Path=/; HttpOnly; SameSite=Lax`)
  return visits.get(fresh)
}

http.createServer(async (request, response) => {
  const url = new URL(request.url, self)
  const v = visit(request, response)
  try {
    if (url.pathname === '/login') {
      v.verifier = client.randomPKCECodeVerifier()
      v.state = client.randomState()
      v.nonce = client.randomNonce()
      const to = client.buildAuthorizationUrl(config, {
        redirect_uri: `${self}/callback`,
        scope: 'openid profile email offline_access',
        code_challenge: await client.calculatePKCECodeChallenge(v.verifier),
        code_challenge_method: 'S256',
        state: v.state,
        nonce: v.nonce,
      })
      response.writeHead(303, { Location: to.href }).end()
    } else if (url.pathname === '/callback') {
      const tokens = await client.authorizationCodeGrant(config, url, {
        pkceCodeVerifier: v.verifier, expectedState: v.state, expectedNonce: v.nonce,
      })
      v.claims = tokens.claims()
      v.refresh = tokens.refresh_token // keep the newest: it changes with every use
      response.writeHead(303, { Location: '/' }).end()
    } else if (url.pathname === '/refresh' && v.refresh) {
      const tokens = await client.refreshTokenGrant(config, v.refresh)
      v.refresh = tokens.refresh_token
      response.end('refreshed')
    } else {
      response.setHeader('Content-Type', 'text/html')
      response.end(v.claims ? `Signed in as ${v.claims.sub}, ${v.claims.email}` : '<a href="/login">Sign in</a>')
    }
  } catch (error) {
    response.writeHead(400).end(`${error.error ?? error.code}: ${error.error_description ?? error.message}`)
  }
}).listen(Number(PORT), '127.0.0.1', () => console.log(`open ${self}`))
