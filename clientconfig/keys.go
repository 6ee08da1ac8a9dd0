package clientconfig

// keyType is the type that Kafka's ConfigDef gives a key.
type keyType int

const (
	textKey keyType = iota
	passwordKey
	listKey
	boolKey
	intKey // ConfigDef's SHORT and INT
	longKey
	doubleKey
)

// kinds is a set of client kinds.
type kinds uint8

const (
	p kinds = 1 << iota // ProducerConfig
	c                   // ConsumerConfig
	a                   // AdminClientConfig
)

// has says whether the set holds kind.
func (k kinds) has(kind Kind) bool {
	return k&map[Kind]kinds{Producer: p, Consumer: c, Admin: a}[kind] != 0
}

// knownKey is a row of Kafka's key definitions.
type knownKey struct {
	kinds kinds
	typ   keyType
}

// knownKeys are all keys that ProducerConfig, ConsumerConfig and
// AdminClientConfig of Kafka 4.3.1 define, internal ones included;
// testdata/Keys.java prints them.
var knownKeys = map[string]knownKey{
	"acks":                     {p, textKey},
	"allow.auto.create.topics": {c, boolKey},
	"auto.commit.interval.ms":  {c, intKey},
	"auto.offset.reset":        {c, textKey},
	"batch.size":               {p, intKey},
	"bootstrap.controllers":    {a, listKey},
	"bootstrap.servers":        {p | c | a, listKey},
	"buffer.memory":            {p, longKey},
	"check.crcs":               {c, boolKey},
	"client.dns.lookup":        {p | c | a, textKey},
	"client.id":                {p | c | a, textKey},
	"client.rack":              {c, textKey},
	"compression.gzip.level":   {p, intKey},
	"compression.lz4.level":    {p, intKey},
	"compression.type":         {p, textKey},
	"compression.zstd.level":   {p, intKey},
	"config.providers":         {p | c | a, listKey},
	"connections.max.idle.ms":  {p | c | a, longKey},
	"default.api.timeout.ms":   {c | a, intKey},
	"delivery.timeout.ms":      {p, intKey},
	"enable.auto.commit":       {c, boolKey},
	"enable.idempotence":       {p, boolKey},
	"enable.metrics.push":      {p | c | a, boolKey},
	"exclude.internal.topics":  {c, boolKey},
	"fetch.max.bytes":          {c, intKey},
	"fetch.max.wait.ms":        {c, intKey},
	"fetch.min.bytes":          {c, intKey},
	"group.id":                 {c, textKey},
	"group.instance.id":        {c, textKey},
	"group.protocol":           {c, textKey},
	"group.remote.assignor":    {c, textKey},
	"heartbeat.interval.ms":    {c, intKey},
	"interceptor.classes":      {p | c, listKey},
	"internal.throw.on.fetch.stable.offset.unsupported": {c, boolKey},
	"isolation.level":                                     {c, textKey},
	"key.deserializer":                                    {c, textKey},
	"key.serializer":                                      {p, textKey},
	"linger.ms":                                           {p, longKey},
	"max.block.ms":                                        {p, longKey},
	"max.in.flight.requests.per.connection":               {p, intKey},
	"max.partition.fetch.bytes":                           {c, intKey},
	"max.poll.interval.ms":                                {c, intKey},
	"max.poll.records":                                    {c, intKey},
	"max.request.size":                                    {p, intKey},
	"metadata.max.age.ms":                                 {p | c | a, longKey},
	"metadata.max.idle.ms":                                {p, longKey},
	"metadata.recovery.rebootstrap.trigger.ms":            {p | c | a, longKey},
	"metadata.recovery.strategy":                          {p | c | a, textKey},
	"metric.reporters":                                    {p | c | a, listKey},
	"metrics.num.samples":                                 {p | c | a, intKey},
	"metrics.recording.level":                             {p | c | a, textKey},
	"metrics.sample.window.ms":                            {p | c | a, longKey},
	"partition.assignment.strategy":                       {c, listKey},
	"partitioner.adaptive.partitioning.enable":            {p, boolKey},
	"partitioner.availability.timeout.ms":                 {p, longKey},
	"partitioner.class":                                   {p, textKey},
	"partitioner.ignore.keys":                             {p, boolKey},
	"receive.buffer.bytes":                                {p | c | a, intKey},
	"reconnect.backoff.max.ms":                            {p | c | a, longKey},
	"reconnect.backoff.ms":                                {p | c | a, longKey},
	"request.timeout.ms":                                  {p | c | a, intKey},
	"retries":                                             {p | a, intKey},
	"retry.backoff.max.ms":                                {p | c | a, longKey},
	"retry.backoff.ms":                                    {p | c | a, longKey},
	"sasl.client.callback.handler.class":                  {p | c | a, textKey},
	"sasl.jaas.config":                                    {p | c | a, passwordKey},
	"sasl.kerberos.kinit.cmd":                             {p | c | a, textKey},
	"sasl.kerberos.min.time.before.relogin":               {p | c | a, longKey},
	"sasl.kerberos.service.name":                          {p | c | a, textKey},
	"sasl.kerberos.ticket.renew.jitter":                   {p | c | a, doubleKey},
	"sasl.kerberos.ticket.renew.window.factor":            {p | c | a, doubleKey},
	"sasl.login.callback.handler.class":                   {p | c | a, textKey},
	"sasl.login.class":                                    {p | c | a, textKey},
	"sasl.login.connect.timeout.ms":                       {p | c | a, intKey},
	"sasl.login.read.timeout.ms":                          {p | c | a, intKey},
	"sasl.login.refresh.buffer.seconds":                   {p | c | a, intKey},
	"sasl.login.refresh.min.period.seconds":               {p | c | a, intKey},
	"sasl.login.refresh.window.factor":                    {p | c | a, doubleKey},
	"sasl.login.refresh.window.jitter":                    {p | c | a, doubleKey},
	"sasl.login.retry.backoff.max.ms":                     {p | c | a, longKey},
	"sasl.login.retry.backoff.ms":                         {p | c | a, longKey},
	"sasl.mechanism":                                      {p | c | a, textKey},
	"sasl.oauthbearer.assertion.algorithm":                {p | c | a, textKey},
	"sasl.oauthbearer.assertion.claim.aud":                {p | c | a, textKey},
	"sasl.oauthbearer.assertion.claim.exp.seconds":        {p | c | a, intKey},
	"sasl.oauthbearer.assertion.claim.iss":                {p | c | a, textKey},
	"sasl.oauthbearer.assertion.claim.jti.include":        {p | c | a, boolKey},
	"sasl.oauthbearer.assertion.claim.nbf.seconds":        {p | c | a, intKey},
	"sasl.oauthbearer.assertion.claim.sub":                {p | c | a, textKey},
	"sasl.oauthbearer.assertion.file":                     {p | c | a, textKey},
	"sasl.oauthbearer.assertion.private.key.file":         {p | c | a, textKey},
	"sasl.oauthbearer.assertion.private.key.passphrase":   {p | c | a, passwordKey},
	"sasl.oauthbearer.assertion.template.file":            {p | c | a, textKey},
	"sasl.oauthbearer.client.credentials.client.id":       {p | c | a, textKey},
	"sasl.oauthbearer.client.credentials.client.secret":   {p | c | a, passwordKey},
	"sasl.oauthbearer.clock.skew.seconds":                 {p | c | a, intKey},
	"sasl.oauthbearer.expected.audience":                  {p | c | a, listKey},
	"sasl.oauthbearer.expected.issuer":                    {p | c | a, textKey},
	"sasl.oauthbearer.header.urlencode":                   {p | c | a, boolKey},
	"sasl.oauthbearer.jwks.endpoint.refresh.ms":           {p | c | a, longKey},
	"sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": {p | c | a, longKey},
	"sasl.oauthbearer.jwks.endpoint.retry.backoff.ms":     {p | c | a, longKey},
	"sasl.oauthbearer.jwks.endpoint.url":                  {p | c | a, textKey},
	"sasl.oauthbearer.jwt.retriever.class":                {p | c | a, textKey},
	"sasl.oauthbearer.jwt.validator.class":                {p | c | a, textKey},
	"sasl.oauthbearer.scope":                              {p | c | a, textKey},
	"sasl.oauthbearer.scope.claim.name":                   {p | c | a, textKey},
	"sasl.oauthbearer.sub.claim.name":                     {p | c | a, textKey},
	"sasl.oauthbearer.token.endpoint.url":                 {p | c | a, textKey},
	"security.protocol":                                   {p | c | a, textKey},
	"security.providers":                                  {p | c | a, textKey},
	"send.buffer.bytes":                                   {p | c | a, intKey},
	"session.timeout.ms":                                  {c, intKey},
	"share.acknowledgement.mode":                          {c, textKey},
	"share.acquire.mode":                                  {c, textKey},
	"socket.connection.setup.timeout.max.ms":              {p | c | a, longKey},
	"socket.connection.setup.timeout.ms":                  {p | c | a, longKey},
	"ssl.cipher.suites":                                   {p | c | a, listKey},
	"ssl.enabled.protocols":                               {p | c | a, listKey},
	"ssl.endpoint.identification.algorithm":               {p | c | a, textKey},
	"ssl.engine.factory.class":                            {p | c | a, textKey},
	"ssl.key.password":                                    {p | c | a, passwordKey},
	"ssl.keymanager.algorithm":                            {p | c | a, textKey},
	"ssl.keystore.certificate.chain":                      {p | c | a, passwordKey},
	"ssl.keystore.key":                                    {p | c | a, passwordKey},
	"ssl.keystore.location":                               {p | c | a, textKey},
	"ssl.keystore.password":                               {p | c | a, passwordKey},
	"ssl.keystore.type":                                   {p | c | a, textKey},
	"ssl.protocol":                                        {p | c | a, textKey},
	"ssl.provider":                                        {p | c | a, textKey},
	"ssl.secure.random.implementation":                    {p | c | a, textKey},
	"ssl.trustmanager.algorithm":                          {p | c | a, textKey},
	"ssl.truststore.certificates":                         {p | c | a, passwordKey},
	"ssl.truststore.location":                             {p | c | a, textKey},
	"ssl.truststore.password":                             {p | c | a, passwordKey},
	"ssl.truststore.type":                                 {p | c | a, textKey},
	"transaction.timeout.ms":                              {p, intKey},
	"transaction.two.phase.commit.enable":                 {p, boolKey},
	"transactional.id":                                    {p, textKey},
	"value.deserializer":                                  {c, textKey},
	"value.serializer":                                    {p, textKey},
}
