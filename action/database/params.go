package database

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// call is a function with its arguments as text, which the server reads as the
// types that the function declares.
type call struct {
	statement string
	values    [][]byte
}

// newCall reads the rendered arguments: a list, or an object for named ones.
func newCall(function, params string) (call, error) {
	if !json.Valid([]byte(params)) { // a decoder of tokens takes half a list
		return call{}, errors.New("is not JSON")
	}
	dec := json.NewDecoder(strings.NewReader(params))
	dec.UseNumber()
	open, err := dec.Token()
	if err != nil {
		return call{}, err
	}
	named := open == json.Delim('{')
	if !named && open != json.Delim('[') {
		return call{}, errors.New("is neither a list nor an object")
	}
	var c call
	var places []string
	seen := map[string]bool{}
	for dec.More() {
		place := "$" + strconv.Itoa(len(c.values)+1)
		if named {
			key, err := dec.Token()
			if err != nil {
				return call{}, err
			}
			name := fmt.Sprint(key)
			if name == "" || strings.ContainsRune(name, 0) || seen[name] {
				return call{}, fmt.Errorf("%q is no name of an argument, or given twice", name)
			}
			seen[name] = true
			place = pgx.Identifier{name}.Sanitize() + " => " + place
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return call{}, err
		}
		argument, err := argumentOf(value)
		if err != nil {
			return call{}, err
		}
		places, c.values = append(places, place), append(c.values, argument)
	}
	c.statement = "SELECT " + function + "(" + strings.Join(places, ", ") + ")::text"
	return c, nil
}

// argumentOf is a JSON value as the text of an argument: a string as it is, null
// as NULL, everything else as JSON.
func argumentOf(value json.RawMessage) ([]byte, error) {
	switch {
	case string(value) == "null":
		return nil, nil
	case value[0] == '"':
		var text string
		err := json.Unmarshal(value, &text)
		return []byte(text), err
	}
	var b bytes.Buffer
	err := json.Compact(&b, value)
	return b.Bytes(), err
}
