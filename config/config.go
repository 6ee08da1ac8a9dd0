// Package config reads configurations: .properties files, the environment of a
// container image, key definitions with Kafka's types and validation, and the
// Secret that a resolved value is kept in. It imports nothing of ours.
//
// Easy to get wrong: Kafka's keys are case-sensitive, and "${…}" in a value is a
// reference that must survive reading untouched.
package config
