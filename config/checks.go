package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AtLeast is Kafka's Range.atLeast: a number, not null, of min or more. The type
// of min decides how the message writes it.
func AtLeast[N int | float64](min N) Check {
	return func(v Value) string {
		n, ok := v.Number()
		if !ok {
			return v.Invalid("Value must be non-null")
		}
		if n < float64(min) {
			return v.Invalid("Value must be at least " + javaNumber(min))
		}
		return ""
	}
}

// Between is Kafka's Range.between: a number, not null, from min to max.
func Between[N int | float64](min, max N) Check {
	atLeast := AtLeast(min)
	return func(v Value) string {
		if message := atLeast(v); message != "" {
			return message
		}
		if n, _ := v.Number(); n > float64(max) {
			return v.Invalid("Value must be no more than " + javaNumber(max))
		}
		return ""
	}
}

func javaNumber[N int | float64](n N) string {
	if f, ok := any(n).(float64); ok {
		return javaDouble(f)
	}
	return fmt.Sprint(n)
}

// OrNull lets null pass a check that refuses it.
func OrNull(check Check) Check {
	return func(v Value) string {
		if v.Null() {
			return ""
		}
		return check(v)
	}
}

// OneOf is Kafka's ValidString: exactly one of values, not null.
func OneOf(values ...string) Check {
	return func(v Value) string {
		if v.Null() || !slices.Contains(values, v.Text()) {
			return v.Invalid("String must be one of: " + strings.Join(values, ", "))
		}
		return ""
	}
}

// OneOfFold is Kafka's CaseInsensitiveValidString: one of values whatever its
// case, not null. Values are named in upper case, in the order of Kafka's message (a hash order).
func OneOfFold(values ...string) Check {
	return func(v Value) string {
		if v.Null() || !slices.ContainsFunc(values, func(one string) bool { return strings.EqualFold(one, v.Text()) }) {
			return v.Invalid("String must be one of (case insensitive): " + strings.Join(values, ", "))
		}
		return ""
	}
}

// NonEmpty is Kafka's NonEmptyString: null, or some text.
func NonEmpty(v Value) string {
	if !v.Null() && v.Text() == "" {
		return v.Invalid("String must be non-empty")
	}
	return ""
}

// NonEmptyWithoutControlChars is Kafka's check of the same name, which it puts on a connector's name.
func NonEmptyWithoutControlChars(v Value) string {
	if v.Null() {
		return ""
	}
	if v.Text() == "" {
		return v.Invalid("String may not be empty")
	}
	var found []string
	for _, r := range v.Text() {
		if r < ' ' || 0x7f <= r && r <= 0x9f { // Java's Character.isISOControl
			found = append(found, strconv.Itoa(int(r)))
		}
	}
	if found != nil {
		return v.Invalid("String may not contain control sequences but had the following ASCII chars: " + strings.Join(found, ", "))
	}
	return ""
}

// NonNull is Kafka's NonNullValidator.
func NonNull(v Value) string {
	if v.Null() {
		return v.Invalid("entry must be non null")
	}
	return ""
}

// Items is Kafka's ValidList without values of its own: a list without
// duplicates and empty elements, itself empty or null only where allowed. Def.Parse drops duplicates instead
// of refusing them, as Kafka's does for a worker or client, while validate reports them for a connector.
func Items(mayBeEmpty, mayBeNull bool) Check {
	return func(v Value) string {
		switch items := v.Items(); {
		case v.Null() && mayBeNull:
			return ""
		case v.Null():
			return fmt.Sprintf("Configuration '%s' values must not be null.", v.Name)
		case len(items) == 0 && !mayBeEmpty:
			return fmt.Sprintf("Configuration '%s' must not be empty. Valid values include: any non-empty value", v.Name)
		case len(distinct(items)) != len(items):
			return fmt.Sprintf("Configuration '%s' values must not be duplicated.", v.Name)
		case slices.Contains(items, ""):
			return fmt.Sprintf("Configuration '%s' values must not be empty.", v.Name)
		}
		return ""
	}
}

// Aliases is the check of a connector's lists of names, each once (ConnectorConfig's aliasValidator).
func Aliases(v Value) string {
	items := v.Items()
	if v.Null() || len(distinct(items)) == len(items) {
		return ""
	}
	shown := "[" + strings.Join(items, ", ") + "]"
	if v.resolved() {
		shown = v.Shown()
	}
	return invalid(v.Name, shown, "Duplicate alias provided.")
}

// ItemsOf is Kafka's ValidList.in: like Items, and each element one of values.
func ItemsOf(mayBeEmpty bool, values ...string) Check {
	items := Items(true, false)
	return func(v Value) string {
		if !v.Null() && len(v.Items()) == 0 && !mayBeEmpty {
			return fmt.Sprintf("Configuration '%s' must not be empty. Valid values include: [%s]", v.Name, strings.Join(values, ", "))
		}
		if message := items(v); message != "" {
			return message
		}
		for _, item := range v.Items() {
			if !slices.Contains(values, item) {
				shown := item
				if v.resolved() {
					shown = v.Shown()
				}
				return invalid(v.Name, shown, "String must be one of: "+strings.Join(values, ", "))
			}
		}
		return ""
	}
}

// distinct returns items without those that came before.
func distinct(items []string) []string {
	seen := make(map[string]bool, len(items))
	kept := make([]string, 0, len(items))
	for _, item := range items {
		if !seen[item] {
			seen[item] = true
			kept = append(kept, item)
		}
	}
	return kept
}
