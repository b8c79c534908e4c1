package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
)

// A configuration holds values of the environment in fields of many types, so
// what prints is a summary without values: for every verb of fmt, for
// encoding/json and for log/slog.

func (c Config) String() string {
	return fmt.Sprintf("configuration %s: %d databases, %d observers", c.Path, len(c.Databases), len(c.Observers))
}

// Format prints the summary for every verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON is the summary as a string.
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// LogValue is the summary.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (o Observer) String() string {
	return "observer with " + strconv.Itoa(len(o.Actions)) + " actions"
}

// Format prints the summary for every verb.
func (o Observer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, o.String()) }

// MarshalJSON is the summary as a string.
func (o Observer) MarshalJSON() ([]byte, error) { return json.Marshal(o.String()) }

// LogValue is the summary.
func (o Observer) LogValue() slog.Value { return slog.StringValue(o.String()) }

func (a Action) String() string {
	if newActionConfig(a.Type) == nil {
		return "unknown action"
	}
	return a.Type + " action"
}

// Format prints the summary for every verb.
func (a Action) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// MarshalJSON is the summary as a string.
func (a Action) MarshalJSON() ([]byte, error) { return json.Marshal(a.String()) }

// LogValue is the summary.
func (a Action) LogValue() slog.Value { return slog.StringValue(a.String()) }

func (d Database) String() string { return d.Kind() + " database" }

// Format prints the summary for every verb.
func (d Database) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, d.String()) }

// MarshalJSON is the summary as a string.
func (d Database) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// LogValue is the summary.
func (d Database) LogValue() slog.Value { return slog.StringValue(d.String()) }

func (s State) String() string { return "state store" }

// Format prints the summary for every verb.
func (s State) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

func (t Transport) String() string { return "transport" }

// Format prints the summary for every verb.
func (t Transport) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalJSON is the summary as a string.
func (t Transport) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// LogValue is the summary.
func (t Transport) LogValue() slog.Value { return slog.StringValue(t.String()) }

func (n NATS) String() string { return "NATS" }

// Format prints the summary for every verb.
func (n NATS) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, n.String()) }

// MarshalJSON is the summary as a string.
func (n NATS) MarshalJSON() ([]byte, error) { return json.Marshal(n.String()) }

// LogValue is the summary.
func (n NATS) LogValue() slog.Value { return slog.StringValue(n.String()) }
