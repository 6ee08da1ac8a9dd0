#!/bin/sh
# Users, ACLs and topics of one of the two demo clusters, done as admin in its
# container network. It can be repeated.
#
#   setup.sh source|target
set -eu
cluster=$1
bin=/opt/kafka/bin
password() { sed -n "s/^$1=//p" /run/secrets/kafka; }
admin=/tmp/admin.properties
umask 077
cat >$admin <<CONF
security.protocol=SASL_PLAINTEXT
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="$(password admin)";
CONF
export KAFKA_HEAP_OPTS=-Xmx128m

user() { # user NAME: its password is in the mounted secret
  echo "SCRAM-SHA-512=[iterations=4096,password=$(password "$1")]" >/tmp/scram
  $bin/kafka-configs.sh --bootstrap-server "$cluster:9092" --command-config $admin --alter \
    --entity-type users --entity-name "$1" --add-config "$(cat /tmp/scram)" >/dev/null
  rm /tmp/scram
}
allow() { # allow NAME 'OPERATIONS' RESOURCE...
  principal=$1 operations=$2
  shift 2
  set -- "$@" --add --allow-principal "User:$principal"
  for o in $operations; do set -- "$@" --operation "$o"; done
  $bin/kafka-acls.sh --bootstrap-server "$cluster:9092" --command-config $admin "$@" >/dev/null
}

case $cluster in
source)
  user orders-ro
  # What reads the orders may read them and nothing else.
  allow orders-ro "Read Describe DescribeConfigs" --topic orders --resource-pattern-type prefixed
  $bin/kafka-topics.sh --bootstrap-server source:9092 --command-config $admin --create --if-not-exists \
    --topic orders --partitions 6 --replication-factor 1 >/dev/null
  $bin/kafka-topics.sh --bootstrap-server source:9092 --command-config $admin --create --if-not-exists \
    --topic salaries --partitions 1 --replication-factor 1 >/dev/null # which nobody was given
  i=0
  while [ $i -lt 1000 ]; do
    i=$((i + 1))
    echo "customer-$((i % 50)):{\"order\":$i,\"amount\":$((i * 37 % 5000))}"
  done | $bin/kafka-console-producer.sh --bootstrap-server source:9092 --command-config $admin --topic orders \
    --reader-property parse.key=true --reader-property key.separator=: >/dev/null
  ;;
target)
  user worker
  user orders-rw
  # The workers' own topics, and no others.
  allow worker All --topic barnabas- --resource-pattern-type prefixed
  allow worker "Write Describe" --transactional-id connect-cluster- --resource-pattern-type prefixed
  allow worker "Read Describe" --group barnabas
  # What writes the copies of the orders.
  allow orders-rw "Create Alter AlterConfigs Describe DescribeConfigs Read Write" --topic source.orders --resource-pattern-type prefixed
  # With these nothing is copied twice: the offset runs, and transactional ids to fence with.
  allow orders-rw "Create Describe DescribeConfigs Read Write" --topic mm2-offset-runs. --resource-pattern-type prefixed
  allow orders-rw "Describe Write" --transactional-id barnabas- --resource-pattern-type prefixed
  ;;
esac
rm $admin
echo "setup: $cluster is ready"
