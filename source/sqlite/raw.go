package sqlite

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// rawRow writes a row as a JSON object of its columns, in their order. Blobs
// and text that is not UTF-8 become \x and hexadecimal digits.
func rawRow(columns []string, values []any) json.RawMessage {
	b := []byte{'{'}
	for i, c := range columns {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, jsonText(c)...)
		b = append(b, ':')
		b = append(b, rawValue(values[i])...)
	}
	return append(b, '}')
}

func rawValue(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte("null")
	case int64:
		return strconv.AppendInt(nil, v, 10)
	case float64:
		if b, err := json.Marshal(v); err == nil {
			return b
		}
		return jsonText(strconv.FormatFloat(v, 'g', -1, 64)) // JSON has no infinity
	case string:
		if utf8.ValidString(v) {
			return jsonText(v)
		}
		return jsonText(`\x` + hex.EncodeToString([]byte(v)))
	case []byte:
		return jsonText(`\x` + hex.EncodeToString(v))
	}
	return jsonText(fmt.Sprint(v))
}

// jsonText writes a JSON string. Text always encodes.
func jsonText(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		return []byte(`""`)
	}
	return b
}

// shown is the beginning of a value, for an error message.
func shown(v any) string {
	const most = 60
	text := string(rawValue(v))
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
