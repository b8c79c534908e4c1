package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// setText sets a scalar from its text: a default, a variable of the
// environment, or what the document has. "" is the zero value of a key without
// a default only for texts; anything else must parse.
func setText(target any, key, text string) error {
	var err error
	switch target := target.(type) {
	case *string:
		*target = text
	case *observer.Secret:
		*target = observer.NewSecret(text)
	case *bool:
		*target, err = strconv.ParseBool(text)
	case *int:
		*target, err = strconv.Atoi(text)
	case *int64:
		*target, err = strconv.ParseInt(text, 10, 64)
	case *float64:
		*target, err = parseNumber(text)
	case *time.Duration:
		*target, err = parseDuration(key, text)
	case *slog.Level:
		*target, err = parseLevel(text)
	}
	if err != nil {
		return fmt.Errorf("must be %s", wanted(key, target))
	}
	return nil
}

// wanted describes what a key takes.
func wanted(key string, target any) string {
	switch target.(type) {
	case *bool:
		return "true or false"
	case *int, *int64:
		return "an integer"
	case *float64:
		return "a number"
	case *slog.Level:
		return "debug, info, warn or error"
	case *time.Duration:
		switch unit(key) {
		case time.Millisecond:
			return "an integer (milliseconds)"
		case time.Second:
			return "an integer (seconds)"
		case time.Minute:
			return "an integer (minutes)"
		case 24 * time.Hour:
			return "an integer (days)"
		default:
			return `a duration such as "30s"`
		}
	}
	return "a string"
}

// wantedElement describes what an element of a list is.
func wantedElement(t reflect.Type) string {
	if t == reflect.TypeFor[time.Duration]() {
		return `a duration such as "30s", or a list of them`
	}
	if t.Kind() == reflect.Int {
		return "an integer or a list of integers"
	}
	return "a string or a list of strings"
}

// unit is what an integer under the key counts; 0 for a duration in words.
func unit(key string) time.Duration {
	switch {
	case strings.HasSuffix(key, "_ms"):
		return time.Millisecond
	case strings.HasSuffix(key, "_secs"):
		return time.Second
	case strings.HasSuffix(key, "_minutes"):
		return time.Minute
	case strings.HasSuffix(key, "_days"):
		return 24 * time.Hour
	}
	return 0
}

func parseDuration(key, text string) (time.Duration, error) {
	u := unit(key)
	if u == 0 {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, err
	}
	// What overflows is out of every range that a key may have, as the limits are.
	limit := math.MaxInt64 / int64(u)
	return time.Duration(min(max(n, -limit), limit)) * u, nil
}

// parseNumber reads a number as people write them: no infinity, no hexadecimal.
func parseNumber(text string) (float64, error) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, errors.New("not a number")
	}
	return strconv.ParseFloat(text, 64)
}

func parseLevel(text string) (slog.Level, error) {
	switch text {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, errors.New("unknown level")
}

// permitted checks a value against the min, max and choice of its tag.
func (s *scope) permitted(tag reflect.StructTag, key string, target any) error {
	if text, ok := target.(*string); ok {
		return s.chosen(tag, *text)
	}
	lowest, limited := tag.Lookup("min")
	if !limited {
		return nil
	}
	highest := tag.Get("max")
	value := reflect.ValueOf(target).Elem()
	if value.CanFloat() {
		low, _ := parseNumber(lowest) // part of the program, and tested
		high, _ := parseNumber(highest)
		if value.Float() < low || value.Float() > high {
			return fmt.Errorf("must be between %s and %s", lowest, highest)
		}
		return nil
	}
	if value.Int() < bound(target, key, lowest) || value.Int() > bound(target, key, highest) {
		return fmt.Errorf("must be between %s and %s", lowest, highest)
	}
	return nil
}

// bound reads a limit as a value of the type it limits.
func bound(target any, key, text string) int64 {
	limit := reflect.New(reflect.TypeOf(target).Elem())
	_ = setText(limit.Interface(), key, text) // part of the program, and tested
	return limit.Elem().Int()
}

// choices are the words that the tag allows; nil when it allows every one.
func choices(tag reflect.StructTag) []string {
	if choice, limited := tag.Lookup("choice"); limited {
		return strings.Split(choice, ",")
	}
	return nil
}

func (s *scope) chosen(tag reflect.StructTag, text string) error {
	words := choices(tag)
	if words == nil || slices.Contains(words, text) {
		return nil
	}
	return fmt.Errorf("must be %s, not %s", list(words), s.vault.safe(strconv.Quote(text)))
}
