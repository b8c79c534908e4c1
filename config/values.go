package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// twin is the ending of a key that names the environment variable with the value.
const twin = "_env"

// leaf fills one key. The environment comes before the file, the file before
// the default.
func (s *scope) leaf(key string, tag reflect.StructTag, target any) {
	s.public = choices(tag)
	s.rejectBoth(key, target)
	err := s.override(key, target)
	if errors.Is(err, errAbsent) {
		err = s.named(key, target)
	}
	if errors.Is(err, errAbsent) {
		err = s.written(key, target)
	}
	if errors.Is(err, errAbsent) {
		// The defaults are part of the program: a test sets every one of them.
		_ = setText(target, key, tag.Get("default"))
		return
	}
	if err == nil {
		err = s.permitted(tag, key, target)
	}
	if err != nil {
		s.failLeaf(key, err)
	}
}

// errAbsent says that a key is not given in one of the places it may stand.
var errAbsent = errors.New("absent")

// elementError is a mistake in one element of a list, or in one entry of a map.
type elementError struct {
	at  int
	err error
}

func (e *elementError) Error() string { return e.err.Error() }
func (e *elementError) Unwrap() error { return e.err }

func (s *scope) failLeaf(key string, err error) {
	if element, ok := errors.AsType[*elementError](err); ok {
		s.fail(element.at, join(s.path, key), "%s", err.Error())
		return
	}
	s.failKey(key, "%s", err.Error())
}

// hasTwin reports whether the key may be written as key_env.
func (s *scope) hasTwin(target any) bool {
	switch target.(type) {
	case *string, *observer.Secret:
		return s.twins
	}
	return false
}

func (s *scope) rejectBoth(key string, target any) {
	if !s.hasTwin(target) {
		return
	}
	s.paired = append(s.paired, key+twin)
	if s.table[key] != nil && s.table[key+twin] != nil {
		s.fail(s.table[key+twin].key, join(s.path, key+twin), "stands beside %s: write one of the two", key)
	}
}

// override takes the value from the environment variable of the key.
func (s *scope) override(key string, target any) error {
	if headers, ok := target.(*map[string]string); ok {
		return s.headers(key, headers)
	}
	text, name, ok := s.variable(key)
	if !ok {
		return errAbsent
	}
	if s.hasTwin(target) {
		s.keep(observer.NewSecret(text))
	}
	s.origins[join(s.path, key)] = name
	s.unexpanded[key] = "$" + position.ReplaceAllString(name, "")
	// What does not parse is not repeated: it may be a misplaced password.
	return s.setAny(key, target, text)
}

// variable looks the environment variable of a key up. DATABASE_URL stands for
// the url of the first database; the more precise name wins.
func (s *scope) variable(key string) (text, name string, ok bool) {
	candidates := []string{variable(s.env, key)}
	if candidates[0] == "FRAISEQL_DATABASES_0_URL" {
		candidates = append(candidates, "DATABASE_URL")
	}
	for _, name := range candidates {
		s.variables[name] = true
		if text, ok := s.lookup(name); ok {
			return text, name, true
		}
	}
	return "", "", false
}

// setAny sets a list from words separated by commas, and anything else from the text.
func (s *scope) setAny(key string, target any, text string) error {
	if v := reflect.ValueOf(target).Elem(); v.Kind() == reflect.Slice {
		for word := range strings.SplitSeq(text, ",") {
			if word = strings.TrimSpace(word); word == "" {
				continue
			}
			if err := appendText(v, word); err != nil {
				return err
			}
		}
		return nil
	}
	return setText(target, key, text)
}

// named takes the value from the variable that key_env names.
func (s *scope) named(key string, target any) error {
	v := s.table[key+twin]
	if v == nil || !s.hasTwin(target) {
		return errAbsent
	}
	name, ok := v.data.(string)
	if !ok {
		return fmt.Errorf("%s must be the name of an environment variable in quotes, not %s", key+twin, kind(v))
	}
	if !variableName.MatchString(name) {
		// It is not repeated: often it is the secret itself.
		return fmt.Errorf("%s must be the name of an environment variable", key+twin)
	}
	text, ok := s.lookup(name)
	if !ok {
		return fmt.Errorf("environment variable %s, which %s names, is not set", name, key+twin)
	}
	s.origins[join(s.path, key)] = name
	s.unexpanded[key] = "${" + name + "}"
	s.keep(observer.NewSecret(text))
	return setText(target, key, text)
}

// written takes the value from the file.
func (s *scope) written(key string, target any) error {
	v := s.table[key]
	if v == nil {
		return errAbsent
	}
	if slice := reflect.ValueOf(target).Elem(); slice.Kind() == reflect.Slice {
		return s.elements(key, v, slice)
	}
	text, err := s.text(key, target, v)
	if err != nil {
		return err
	}
	if secret, ok := target.(*observer.Secret); ok {
		*secret = observer.NewSecret(text)
		s.keep(*secret)
		return nil
	}
	if err := setText(target, key, text); err != nil {
		if shown := s.vault.safe(strconv.Quote(text)); len(shown) < 100 {
			return fmt.Errorf("%w, not %s", err, shown)
		}
		return err
	}
	return nil
}

// text is a scalar of the document as text, if it has the kind that target needs.
func (s *scope) text(key string, target any, v *value) (string, error) {
	switch data := v.data.(type) {
	case bool:
		if _, ok := target.(*bool); ok {
			return strconv.FormatBool(data), nil
		}
	case int64:
		switch target.(type) {
		case *int, *int64, *float64:
			return strconv.FormatInt(data, 10), nil
		case *time.Duration:
			if unit(key) != 0 {
				return strconv.FormatInt(data, 10), nil
			}
		}
	case float64:
		if _, ok := target.(*float64); ok {
			return strconv.FormatFloat(data, 'f', -1, 64), nil
		}
	case string:
		if wantsText(key, target) {
			return s.expand(key, data)
		}
	}
	return "", fmt.Errorf("must be %s, not %s", wanted(key, target), kind(v))
}

// wantsText reports whether the key is written in quotes.
func wantsText(key string, target any) bool {
	switch target.(type) {
	case *string, *observer.Secret, *slog.Level:
		return true
	case *time.Duration:
		return unit(key) == 0
	}
	return false
}

// expand resolves ${VAR} in a string of the file.
func (s *scope) expand(key, text string) (string, error) {
	expanded, secrets, err := expand(text, s.lookup)
	s.keep(secrets...)
	if len(secrets) > 0 {
		s.unexpanded[key] = text
	}
	return expanded, err
}

// keep remembers secrets for the table and keeps them out of every message.
func (s *scope) keep(secrets ...observer.Secret) {
	for _, secret := range secrets {
		if !slices.Contains(s.public, secret.Reveal()) {
			s.secrets = append(s.secrets, secret)
			s.vault.add(secret)
		}
	}
}

// elements fills a list from a list of strings, or from one string.
func (s *scope) elements(key string, v *value, slice reflect.Value) error {
	slice.Set(reflect.MakeSlice(slice.Type(), 0, 1)) // an empty list is not an absent one
	items, ok := v.list()
	if !ok {
		items = []*value{v}
	}
	given := make([]string, len(items))
	for i, item := range items {
		if given[i], ok = elementText(item, slice.Type().Elem()); !ok {
			return &elementError{item.at, fmt.Errorf("must be %s, not %s", wantedElement(slice.Type().Elem()), kind(item))}
		}
		if err := s.element(key, given[i], slice); err != nil {
			return &elementError{item.at, err}
		}
	}
	if s.unexpanded[key] != "" {
		s.unexpanded[key] = strings.Join(given, ",")
	}
	return nil
}

// elementText is an element of the document as text, if it has the kind that the
// elements of the list need.
func elementText(item *value, t reflect.Type) (string, bool) {
	if t.Kind() == reflect.Int {
		number, ok := item.data.(int64)
		return strconv.FormatInt(number, 10), ok
	}
	text, ok := item.data.(string)
	return text, ok
}

// element appends one that the file has.
func (s *scope) element(key, given string, slice reflect.Value) error {
	text, err := s.expand(key, given)
	if err != nil {
		return err
	}
	if slice.Type().Elem() == reflect.TypeFor[observer.Secret]() {
		s.keep(observer.NewSecret(text))
	}
	if err := appendText(slice, text); err != nil {
		return fmt.Errorf("%w, not %s", err, s.vault.safe(strconv.Quote(text)))
	}
	return nil
}

// headers reads a table of strings. Its entries have twins, and are overridden
// one by one.
func (s *scope) headers(key string, target *map[string]string) error {
	v := s.table[key]
	if v == nil {
		return errAbsent
	}
	table, ok := v.table()
	if !ok {
		return fmt.Errorf("must be a table of strings, not %s", kind(v))
	}
	inner := s.nested(key, v, table)
	*target = make(map[string]string, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		var text string
		name = strings.TrimSuffix(name, twin)
		inner.leaf(name, "", &text)
		(*target)[name] = text
	}
	s.secrets = append(s.secrets, inner.secrets...)
	for name, text := range inner.unexpanded {
		s.unexpanded[key+"."+name] = text
	}
	return nil
}

func appendText(slice reflect.Value, text string) error {
	item := reflect.New(slice.Type().Elem())
	switch target := item.Interface().(type) {
	case *netip.Prefix:
		prefix, err := parsePrefix(text)
		if err != nil {
			return err
		}
		*target = prefix
	case *observer.Secret:
		*target = observer.NewSecret(text)
	case *time.Duration, *int:
		if err := setText(target, "", text); err != nil {
			return err
		}
	default:
		item.Elem().SetString(text)
	}
	slice.Set(reflect.Append(slice, item.Elem()))
	return nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, errors.New(`must be an address such as "127.0.0.1" or a range such as "10.0.0.0/8"`)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}
