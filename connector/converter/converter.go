// Package converter turns the bytes of records into Connect's data and back, as Kafka's converters do: ByteArrayConverter,
// StringConverter, JsonConverter with and without schemas, those of single numbers and booleans, and SimpleHeaderConverter.
// It knows what the connectors of this program need: sources that write text, and sinks that write a value's text.
//
// Easy to get wrong: settings of a converter count only where its class stands. Without value.converter a connector's
// value.converter.schemas.enable is ignored, and the worker's converter is used with the worker's settings (Worker.buildWorkerTask
// and Plugins.newConverter).
package converter

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"barnabas/config"
	"barnabas/connector/versionrange"
)

// Kind is what of a record a converter is for. It begins the settings' names.
type Kind string

// The kinds.
const (
	Key    Kind = "key"
	Value  Kind = "value"
	Header Kind = "header"
)

// Kinds are all kinds, in the order in which Connect describes their settings.
var Kinds = []Kind{Header, Key, Value}

// Setting is the setting that names the class: key.converter and the like.
func (k Kind) Setting() string { return string(k) + ".converter" }

// Class names of Kafka's.
const (
	StringClass       = "org.apache.kafka.connect.storage.StringConverter"
	SimpleHeaderClass = "org.apache.kafka.connect.storage.SimpleHeaderConverter"
	JSONClass         = "org.apache.kafka.connect.json.JsonConverter"
	ByteArrayClass    = "org.apache.kafka.connect.converters.ByteArrayConverter"
	// DataException is the class of nearly all that converters throw.
	DataException = "org.apache.kafka.connect.errors.DataException"
)

// Error is what a converter cannot read or write.
type Error struct {
	Class   string // Kafka's, of the exception; empty: DataException
	Message string // Kafka's
	Cause   error  // may be nil
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return strings.TrimSuffix(e.Message, ": ") + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Exception is the Java class of the exception that Kafka's converter throws.
func (e *Error) Exception() string { return cmp.Or(e.Class, DataException) }

func wrong(format string, args ...any) error { return &Error{Message: fmt.Sprintf(format, args...)} }

// Converter converts one part of records. It may be used by several goroutines.
type Converter struct {
	// Class is the Java class, for reports of errors.
	Class  string
	encode func(text *string) ([]byte, error)
	decode func(b []byte) (any, error)
}

// Encode turns a text of the schema STRING into bytes. A nil text is nothing without a schema, as the key of a record
// that has none.
func (c *Converter) Encode(text *string) ([]byte, error) { return c.encode(text) }

// Decode reads Connect's data out of bytes. Text writes it as Java would.
func (c *Converter) Decode(b []byte) (any, error) { return c.decode(b) }

// New returns the converter of kind that a connector has: of its own settings, or else the worker's. The error names
// a setting that is wrong.
func New(kind Kind, worker, connector config.Settings) (*Converter, error) {
	key := kind.Setting()
	from := worker
	if _, own := connector[key]; own {
		from = connector
	}
	byDefault := map[Kind]string{Key: ByteArrayClass, Value: ByteArrayClass, Header: SimpleHeaderClass}[kind]
	written, _ := config.NewDef(config.Key{Name: key, Type: config.Class, Default: &byDefault}).Parse(from)
	class, ok := find(kind, written.String(key))
	if !ok {
		return nil, fmt.Errorf("%s: there is no converter %q here", key, class)
	}
	values, problems := definitions()[class].Parse(withType(kind, from.Sub(key+".")))
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s: %s", key, problems[0].Message)
	}
	c, err := classes[class](values)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	c.Class = class
	return c, nil
}

// withType fills in converter.type, which the framework sets.
func withType(kind Kind, s config.Settings) config.Settings {
	return config.Literal(map[string]string{"converter.type": string(kind)}).Merge(s)
}

// classes make a converter out of its settings.
var classes = map[string]func(config.Values) (*Converter, error){
	ByteArrayClass:    newByteArray,
	StringClass:       newString,
	JSONClass:         newJSON,
	SimpleHeaderClass: newSimpleHeader,
	"org.apache.kafka.connect.converters.BooleanConverter": newBoolean,
	"org.apache.kafka.connect.converters.DoubleConverter":  newNumber("double", 8, toDouble),
	"org.apache.kafka.connect.converters.FloatConverter":   newNumber("float", 4, toFloat),
	"org.apache.kafka.connect.converters.IntegerConverter": newNumber("integer", 4, toInt),
	"org.apache.kafka.connect.converters.LongConverter":    newNumber("long", 8, toLong),
	"org.apache.kafka.connect.converters.ShortConverter":   newNumber("short", 2, toShort),
}

// find returns the full name of a class that is here for kind. Connect takes the simple name, and that without
// "Converter", too.
func find(kind Kind, class string) (string, bool) {
	for full := range classes {
		simple := full[strings.LastIndex(full, ".")+1:]
		if class == full || class == simple || class+"Converter" == simple {
			return full, kind == Header || full != SimpleHeaderClass
		}
	}
	return class, false
}

// recorded is what Kafka Connect 4.3.1 says of the settings of each class.
//
//go:embed definitions.json
var recorded []byte

var definitions = sync.OnceValue(func() map[string]*config.Def {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(recorded, &all); err != nil {
		panic(fmt.Sprintf("converter: embedded definitions: %v", err))
	}
	defs := map[string]*config.Def{}
	for class, text := range all {
		d, err := config.DefFromInfos(text)
		if err != nil {
			panic(fmt.Sprintf("converter: embedded definitions of %s: %v", class, err))
		}
		for name, check := range checks {
			if _, ok := d.Key(name); ok {
				d.Check(name, check)
			}
		}
		defs[class] = d
	}
	defs[SimpleHeaderClass] = config.NewDef()
	return defs
})

var checks = map[string]config.Check{
	"converter.type": config.OneOf("key", "value", "header"),
	"decimal.format": config.OneOfFold("NUMERIC", "BASE64"),
}

// Infos describes the settings of the converters that a connector names itself, as Connect adds them to the answer of a
// validation behind all others (AbstractHerder.validateConnectorConfig). The problems are about the classes themselves.
func Infos(connector config.Settings) (infos []config.Info, problems []config.Problem) {
	for _, kind := range Kinds {
		key := kind.Setting()
		setting, own := connector[key]
		if !own {
			continue
		}
		values, _ := config.NewDef(config.Key{Name: key, Type: config.Class}).Parse(connector)
		class, ok := find(kind, values.String(key))
		if !ok {
			message := fmt.Sprintf("Invalid value %s for configuration %s: Class %s could not be found.", setting.Written, key, setting.Written)
			if _, known := classes[class]; known {
				message = fmt.Sprintf("Class class %s does not implement the Converter interface", class)
			}
			problems = append(problems, config.Problem{Key: key, Message: message})
			continue
		}
		if wrong := wrongVersion(class, connector, key); wrong != "" {
			problems = append(problems, config.Problem{Key: key, Message: wrong}, config.Problem{Key: key + versionSuffix, Message: wrong})
		}
		d := definitions()[class].Infos(class, withType(kind, connector.Sub(key+".")))
		for _, info := range d.Configs {
			info.Value.Name = key + "." + info.Value.Name
			if info.Definition != nil {
				info.Definition.Name = info.Value.Name
			}
			infos = append(infos, info)
		}
	}
	return infos, problems
}

// versionSuffix ends the setting that says which version of a converter is wanted (KIP-891).
const versionSuffix = ".plugin.version"

// kafkaVersion is the version of all classes.
const kafkaVersion = "4.3.1"

// wrongVersion says that there is no such version of a class. What is no version at all is left to CheckVersions.
func wrongVersion(class string, connector config.Settings, key string) string {
	wanted, ok := connector[key+versionSuffix]
	if !ok {
		return ""
	}
	available := []string{kafkaVersion, kafkaVersion} // Connect counts it as a header converter, too
	if class == SimpleHeaderClass {
		available = available[:1]
	}
	wrong, malformed := versionrange.Check(class, wanted.Written, available...)
	if malformed {
		return ""
	}
	return wrong
}

// CheckVersions finds settings of versions that are none (ConnectorConfig.PluginVersionValidator).
func CheckVersions(written map[string]string) (problems []config.Problem) {
	for _, kind := range Kinds {
		key := kind.Setting() + versionSuffix
		if wanted, ok := written[key]; ok {
			if _, err := versionrange.Parse(wanted); err != nil {
				problems = append(problems, config.Problem{Key: key, Message: err.Error()})
			}
		}
	}
	return problems
}

// Classes are the full names of all converters here, sorted.
func Classes() []string {
	all := make([]string, 0, len(classes))
	for class := range classes {
		all = append(all, class)
	}
	slices.Sort(all)
	return all
}
