// An OpenID Connect provider: prints its address, and ends with its standard input.
// Its clients ann and eve get access tokens for the resource urn:barnabas; argument 1 is the
// port, argument 2 the name of its key.
const [port, kid] = [Number(process.argv[2]), process.argv[3]]
const root = process.env.NODE_PATH
const load = name => import(require.resolve(name, { paths: [root] }))
const { generateKeyPairSync } = require('crypto')
const http = require('http')

async function main() {
  const { Provider } = await load('oidc-provider')
  const server = http.createServer()
  await new Promise(resolve => server.listen(port, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${server.address().port}`
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const client = client_id => ({
    client_id, client_secret: 'secret-of-' + client_id, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  })
  const provider = new Provider(issuer, {
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
    clients: [client('ann'), client('eve')],
    extraTokenClaims: (_, token) => ({ groups: token.clientId === 'ann' ? ['payments'] : [] }),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource) => ({ scope: 'api', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  })
  server.on('request', provider.callback())
  console.log(issuer)
  process.stdin.resume().on('end', () => process.exit(0))
}
main().catch(err => { console.error(err); process.exit(1) })
