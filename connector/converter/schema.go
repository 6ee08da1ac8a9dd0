package converter

import (
	"math/big"
	"strconv"
)

// schema is one of Connect's, as far as reading needs it.
type schema struct {
	kind         string // of JsonSchema: int8 … struct
	optional     bool
	name         string // of a logical type, or any
	parameters   map[string]string
	elem, key    *schema // of arrays and maps
	fields       []field
	defaultValue any
}

type field struct {
	name   string
	schema *schema
}

// types are Connect's names for JsonSchema's.
var types = map[string]string{
	"boolean": "BOOLEAN", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float": "FLOAT32", "double": "FLOAT64",
	"bytes": "BYTES", "string": "STRING", "array": "ARRAY", "map": "MAP", "struct": "STRUCT",
}

// schemaOf is JsonConverter.asConnectSchema.
func (j *jsonReader) schemaOf(node any) (*schema, error) {
	if node == nil {
		return nil, nil
	}
	o, _ := node.(*object)
	if o == nil {
		return nil, wrong("Schema must contain 'type' field")
	}
	kind, ok := o.fields["type"].(string)
	if !ok {
		return nil, wrong("Schema must contain 'type' field")
	}
	if types[kind] == "" {
		return nil, wrong("Unknown schema type: %s", kind)
	}
	s := &schema{kind: kind}
	if err := j.parts(s, o); err != nil {
		return nil, err
	}
	s.optional, _ = o.fields["optional"].(bool)
	s.name, _ = o.fields["name"].(string)
	if params, ok := o.fields["parameters"].(*object); ok {
		s.parameters = map[string]string{}
		for name, v := range params.fields {
			text, ok := v.(string)
			if !ok {
				return nil, wrong("Schema parameters must have string values.")
			}
			s.parameters[name] = text
		}
	}
	if v, ok := o.get("default"); ok {
		var err error
		if s.defaultValue, err = j.convert(s, v, true); err != nil {
			return nil, err
		}
	}
	return s, nil
}

const builderException = "org.apache.kafka.connect.errors.SchemaBuilderException"

// parts reads the schemas that s consists of.
func (j *jsonReader) parts(s *schema, o *object) (err error) {
	switch s.kind {
	case "array":
		items, ok := o.get("items")
		if !ok || items == nil {
			return wrong("Array schema did not specify the element type")
		}
		s.elem, err = j.schemaOf(items)
	case "map":
		keys, ok := o.get("keys")
		if !ok {
			return wrong("Map schema did not specify the key type")
		}
		values, ok := o.get("values")
		if !ok {
			return wrong("Map schema did not specify the value type")
		}
		if s.key, err = j.schemaOf(keys); err != nil {
			return err
		}
		if s.key == nil {
			return wrong("keySchema cannot be null.")
		}
		if s.elem, err = j.schemaOf(values); err == nil && s.elem == nil {
			return wrong("valueSchema cannot be null.")
		}
	case "struct":
		fields, ok := o.fields["fields"].([]any)
		if !ok {
			return wrong(`Struct schema's "fields" argument is not an array.`)
		}
		seen := map[string]bool{}
		for _, f := range fields {
			of, _ := f.(*object)
			if of == nil {
				return wrong("Struct schema's field name not specified properly")
			}
			name, ok := of.fields["field"].(string)
			if !ok {
				return wrong("Struct schema's field name not specified properly")
			}
			if name == "" {
				return &Error{Class: builderException, Message: "fieldName cannot be null."}
			}
			if seen[name] {
				return &Error{Class: builderException, Message: "Cannot create field because of field name duplication " + name}
			}
			seen[name] = true
			sub, err := j.schemaOf(f)
			if err != nil {
				return err
			}
			s.fields = append(s.fields, field{name, sub})
		}
	}
	return err
}

// decimal is Java's BigDecimal.
type decimal struct {
	unscaled *big.Int
	scale    int32
}

// scale is that of a Decimal's schema.
func (s *schema) scale() (int32, error) {
	n, err := strconv.ParseInt(s.parameters["scale"], 10, 32)
	if err != nil {
		return 0, wrong("Invalid bytes for Decimal field")
	}
	return int32(n), nil
}
