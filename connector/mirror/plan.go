package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// partition is one partition of a topic of the source.
type partition struct {
	topic string
	id    int32
}

// String gives MirrorMaker's spelling (TopicPartition.toString).
func (p partition) String() string { return p.topic + "-" + strconv.Itoa(int(p.id)) }

func (p partition) compare(o partition) int {
	return cmp.Or(strings.Compare(p.topic, o.topic), cmp.Compare(p.id, o.id))
}

// parsePartition reads MirrorMaker's spelling.
func parsePartition(s string) (partition, error) {
	dash := strings.LastIndexByte(s, '-')
	if dash < 1 {
		return partition{}, fmt.Errorf("%q is not a topic, a dash and a partition", s)
	}
	id, err := strconv.ParseInt(s[dash+1:], 10, 32)
	if err != nil || id < 0 {
		return partition{}, fmt.Errorf("%q is not a topic, a dash and a partition", s)
	}
	return partition{s[:dash], int32(id)}, nil
}

// assign deals want out to at most most tasks, each with as many as another or
// one more. What a task of current has it keeps, as far as that balance allows; so as few
// partitions move, and as few tasks restart, as can be. MirrorMaker 2 deals anew from the start each time,
// which moves nearly all of them.
//
// It depends on nothing but its arguments. current is not modified.
func assign(current [][]partition, want []partition, most int) [][]partition {
	want = slices.Clone(want)
	slices.SortFunc(want, partition.compare)
	want = slices.Compact(want)
	tasks := make([][]partition, min(most, len(want)))
	if len(tasks) == 0 {
		return nil
	}

	homeless := make(map[partition]bool, len(want))
	for _, p := range want {
		homeless[p] = true
	}
	for i := range min(len(tasks), len(current)) {
		for _, p := range current[i] {
			if homeless[p] {
				delete(homeless, p)
				tasks[i] = append(tasks[i], p)
			}
		}
		slices.SortFunc(tasks[i], partition.compare)
	}

	// The fullest tasks are the ones that may have one more.
	quota := quotas(tasks, len(want))
	for i := range tasks {
		for len(tasks[i]) > quota[i] {
			last := len(tasks[i]) - 1
			homeless[tasks[i][last]] = true
			tasks[i] = tasks[i][:last]
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(homeless), partition.compare) {
		least := -1
		for i := range tasks {
			if len(tasks[i]) < quota[i] && (least < 0 || len(tasks[i]) < len(tasks[least])) {
				least = i
			}
		}
		tasks[least] = append(tasks[least], p)
	}
	for i := range tasks {
		slices.SortFunc(tasks[i], partition.compare)
	}
	return tasks
}

// quotas says how many of n partitions each task gets.
func quotas(tasks [][]partition, n int) []int {
	order := make([]int, len(tasks))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(tasks[b]), len(tasks[a])) })
	quota := make([]int, len(tasks))
	for rank, i := range order {
		quota[i] = n / len(tasks)
		if rank < n%len(tasks) {
			quota[i]++
		}
	}
	return quota
}

// assigned reads the partitions of task configurations. What cannot be read is
// as good as not assigned.
func assigned(configs []map[string]string) [][]partition {
	tasks := make([][]partition, len(configs))
	for i, c := range configs {
		for text := range strings.SplitSeq(c[keyTaskPartitions], ",") {
			if p, err := parsePartition(strings.TrimSpace(text)); err == nil {
				tasks[i] = append(tasks[i], p)
			}
		}
	}
	return tasks
}

// extends says whether a task's new configuration is the old one with more partitions.
func extends(old, task map[string]string) bool {
	without := func(config map[string]string) map[string]string {
		config = maps.Clone(config)
		delete(config, keyTaskPartitions)
		delete(config, keyUpstream)
		return config
	}
	if !maps.Equal(without(old), without(task)) {
		return false
	}
	before, err := parsePartitions(old[keyTaskPartitions])
	if err != nil {
		return false
	}
	after, err := parsePartitions(task[keyTaskPartitions])
	return err == nil && len(missing(before, after)) == 0 && (len(after) > len(before) || old[keyUpstream] != task[keyUpstream])
}

// parsePartitions reads a task's list of partitions, sorted.
func parsePartitions(text string) ([]partition, error) {
	var all []partition
	for part := range strings.SplitSeq(text, ",") {
		p, err := parsePartition(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	slices.SortFunc(all, partition.compare)
	return slices.Compact(all), nil
}

// missing returns those of some that all lacks. Both are sorted.
func missing(some, all []partition) []partition {
	return slices.DeleteFunc(slices.Clone(some), func(p partition) bool {
		_, found := slices.BinarySearchFunc(all, p, partition.compare)
		return found
	})
}

// taskConfigs writes the configuration of each task: the connector's as
// written, with what the task has to do (MirrorSourceConfig.taskConfigForTopicPartitions). A task with the
// same partitions as before keeps their order, so that it need not restart after a take-over
// from MirrorMaker 2, which does not sort them.
func taskConfigs(written map[string]string, tasks [][]partition, before []map[string]string) []map[string]string {
	previous := assigned(before)
	configs := make([]map[string]string, len(tasks))
	for i, partitions := range tasks {
		names := make([]string, len(partitions))
		for j, p := range partitions {
			names[j] = p.String()
		}
		c := maps.Clone(written)
		if c == nil {
			c = map[string]string{}
		}
		c[keyTaskPartitions] = strings.Join(names, ",")
		if i < len(previous) {
			same := slices.SortedFunc(slices.Values(previous[i]), partition.compare)
			if slices.Equal(same, partitions) {
				c[keyTaskPartitions] = before[i][keyTaskPartitions]
			}
		}
		c[keyTaskIndex] = strconv.Itoa(i)
		c[keyTaskClass] = sourceTaskClass
		configs[i] = c
	}
	return configs
}

// sameConfigs says whether publishing b after a would change nothing.
func sameConfigs(a, b []map[string]string) bool {
	return slices.EqualFunc(a, b, maps.Equal[map[string]string, map[string]string])
}
