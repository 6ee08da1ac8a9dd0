# What there is to do here; each target is a line or two, and CI runs the same.

kafka: ## jars of Kafka, Connect and MirrorMaker 2 for the tests, in .cache
	.ci/kafka

.PHONY: kafka
