package config

// Problem is one thing wrong with one key of a configuration. Message never
// holds a resolved value.
type Problem struct {
	Key     string
	Message string
}

// Def is a set of key definitions, like Kafka's ConfigDef.
type Def struct {
	keys []Key
}

// Key defines one setting.
type Key struct {
	Name string
}
