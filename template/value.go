package template

import (
	"encoding/base64"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"

	"github.com/fraiseql/observer/internal/celenv"
)

// text is a value as people read it: strings as they are, numbers with the
// digits they were recorded with, null as nothing, objects and lists as JSON.
func text(v value) (string, error) {
	switch x := v.Val.(type) {
	case types.String:
		return string(x), nil
	case celenv.Number:
		return x.String(), nil
	case types.Null:
		return "", nil
	case types.Bool:
		return strconv.FormatBool(bool(x)), nil
	case types.Timestamp:
		return timestamp(x), nil
	case types.Double:
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return "", fmt.Errorf("%v cannot be written", float64(x))
		}
	case types.Bytes:
		return base64.StdEncoding.EncodeToString(x), nil
	case types.Duration:
		return duration(x), nil
	}
	b, err := appendValue(nil, v)
	return string(b), err
}

func timestamp(t types.Timestamp) string { return t.Time.UTC().Format(time.RFC3339Nano) }

// duration is written as CEL reads it: seconds, such as 90s.
func duration(d types.Duration) string {
	s, _ := d.ConvertToType(types.StringType).(types.String)
	return string(s)
}

func anywhere([]part) error { return nil }

func writeText(b []byte, _ *part, v value) ([]byte, error) {
	s, err := text(v)
	return append(b, s...), err
}

func writeHTML(b []byte, _ *part, v value) ([]byte, error) {
	s, err := text(v)
	return append(b, html.EscapeString(s)...), err
}

func writeSlack(b []byte, _ *part, v value) ([]byte, error) {
	s, err := text(v)
	return append(b, slackEscape(s)...), err
}

// slackEscape replaces the three characters that Slack's mrkdwn gives meaning
// to beyond looks; a mention or a link needs a <.
func slackEscape(s string) string {
	s = strings.ReplaceAll(s, "&", "&amp;")
	s = strings.ReplaceAll(s, "<", "&lt;")
	return strings.ReplaceAll(s, ">", "&gt;")
}

func prepareHeader(parts []part) error {
	for i := range parts {
		p := &parts[i]
		if p.program != nil {
			continue
		}
		if n := strings.IndexFunc(p.text, isControl); n >= 0 {
			return errorAt(p.at, "the text contains a control character (%q): a header is one line", p.text[n])
		}
	}
	return nil
}

func writeHeader(b []byte, _ *part, v value) ([]byte, error) {
	s, err := text(v)
	if err != nil {
		return b, err
	}
	if n := strings.IndexFunc(s, isControl); n >= 0 {
		return b, fmt.Errorf("the value contains a control character (%q): a header cannot add a line", s[n])
	}
	return append(b, s...), nil
}

// isControl holds for what can end or corrupt a header line. A tab cannot.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
