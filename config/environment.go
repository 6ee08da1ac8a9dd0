package config

import (
	"regexp"
	"strings"
)

// EnvironmentPrefix marks the variables that are settings.
const EnvironmentPrefix = "CONNECT_"

// notSettings are the variables with the prefix that the usual Connect images read
// for other ends (logging, start-up checks), and those that Kubernetes puts into
// every container beside a Service called "connect" (CONNECT_SERVICE_HOST, CONNECT_PORT_8083_TCP_ADDR).
var notSettings = regexp.MustCompile(`^(LOG4J2?_.*|CUB_.*|SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)$`)

// FromEnvironment returns the settings that environ (of the form of os.Environ)
// holds by the convention of the usual Connect images: CONNECT_GROUP_ID is group.id;
// one underscore is a dot, two are a dash, three are an underscore. Of a variable given twice the last one counts.
func FromEnvironment(environ []string) map[string]string {
	settings := map[string]string{}
	for _, variable := range environ {
		name, value, ok := strings.Cut(variable, "=")
		rest, marked := strings.CutPrefix(name, EnvironmentPrefix)
		if !ok || !marked || rest == "" || notSettings.MatchString(rest) {
			continue
		}
		settings[environmentKey(rest)] = value
	}
	return settings
}

// environmentKey turns runs of underscores to what they stand for, three at a time first.
func environmentKey(name string) string {
	var key strings.Builder
	for name = strings.ToLower(name); name != ""; {
		switch {
		case strings.HasPrefix(name, "___"):
			key.WriteByte('_')
			name = name[3:]
		case strings.HasPrefix(name, "__"):
			key.WriteByte('-')
			name = name[2:]
		case name[0] == '_':
			key.WriteByte('.')
			name = name[1:]
		default:
			end := strings.IndexByte(name, '_')
			if end < 0 {
				end = len(name)
			}
			key.WriteString(name[:end])
			name = name[end:]
		}
	}
	return key.String()
}
