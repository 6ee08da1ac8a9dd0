package kafka

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"barnabas/e2e/process"
)

// DistributionJVM are the options with which the scripts of Kafka's
// distribution run any of its programs (kafka-run-class.sh), the heap apart.
func DistributionJVM() []string {
	return []string{
		"-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
	}
}

// MirrorMakerSpec describes a node of MirrorMaker 2 in its dedicated mode.
type MirrorMakerSpec struct {
	Name string
	// Dir takes settings and log.
	Dir string
	// Properties are mm2.properties.
	Properties map[string]string
	// Heap, if it is not 0, is the most memory of the JVM's heap in MiB, and the JVM gets the
	// options that make tests cheap, in place of those of connect-mirror-maker.sh.
	Heap int
}

// StartMirrorMaker starts MirrorMaker 2 as connect-mirror-maker.sh does, with its
// heap of 2 GiB. It returns at once: the process tells nobody when it is ready.
func StartMirrorMaker(spec MirrorMakerSpec) (*process.Process, error) {
	install, err := Find()
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(spec.Properties)) {
		text.WriteString(k + "=" + strings.ReplaceAll(spec.Properties[k], `\`, `\\`) + "\n")
	}
	file := filepath.Join(spec.Dir, "mm2.properties")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("start mirror maker %s: %w", spec.Name, err)
	}
	log4j, err := writeLog4j(spec.Dir, nil)
	if err != nil {
		return nil, err
	}
	const class = "org.apache.kafka.connect.mirror.MirrorMaker"
	args := install.with(append([]string{"-Xms256M", "-Xmx2G"}, DistributionJVM()...), log4j, class, file)
	if spec.Heap != 0 {
		args = install.args(spec.Heap, log4j, class, file)
	}
	return process.Start(process.Spec{
		Name: "mirror maker " + spec.Name,
		Path: install.java,
		Args: args,
		Dir:  spec.Dir,
		Log:  filepath.Join(spec.Dir, "mm2.log"),
	})
}
