package condition_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
)

const shipped = `{
	"status": "shipped", "total": 100.00, "price": 0.1, "count": 3, "negative": -2.5,
	"big": 9007199254740993, "huge": 123456789012345678901234567890, "tiny": 0.1000000000000000055511151231257827,
	"absurd": 1e999999999, "unspeakable": 1e99999999999999999999, "text_total": "100",
	"none": null, "flag": true, "name": "Ada", "pattern": "^A", "odd_pattern": "(",
	"items": [{"qty": 2, "sku": "a"}, {"qty": 3.5, "sku": "b"}], "tags": ["x", "y"],
	"customer": {"email": "ada@example.com", "none": null}, "ordered_at": "2026-01-02T03:04:05Z"
}`

func update() *observer.Event {
	ms := int64(12)
	return &observer.Event{
		ID: "0192", Operation: observer.Update, EntityType: "Order", EntityID: "7",
		Data:      json.RawMessage(shipped),
		Before:    json.RawMessage(`{"status":"new","total":100,"count":2,"gone":1,"none":null}`),
		TenantID:  "acme",
		Timestamp: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), DurationMS: &ms,
	}
}

func withoutBefore() *observer.Event {
	e := update()
	return &observer.Event{ID: e.ID, Operation: e.Operation, EntityType: e.EntityType, Data: e.Data}
}

func insert() *observer.Event {
	return &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: json.RawMessage(`{"status":"new"}`)}
}

func remove() *observer.Event {
	return &observer.Event{ID: "2", Operation: observer.Delete, EntityType: "Order", Data: json.RawMessage(`{"status":"old"}`)}
}

func custom() *observer.Event {
	return &observer.Event{ID: "3", Operation: observer.Custom, EntityType: "Order"}
}

// compileAlone compiles src in an environment of its own.
func compileAlone(src string) (*condition.Condition, error) {
	compiler, err := condition.NewCompiler()
	if err != nil {
		return nil, err
	}
	return compiler.Compile(src)
}

func compile(t *testing.T, src string) *condition.Condition {
	t.Helper()
	c, err := compileAlone(src)
	if err != nil {
		t.Fatalf("compile %s: %v", src, err)
	}
	return c
}

func checkMatches(t *testing.T, e func() *observer.Event, want bool, conditions ...string) {
	t.Helper()
	for _, src := range conditions {
		got, err := compile(t, src).Match(t.Context(), e())
		if err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", src, got, err, want)
		}
	}
}

func TestConditionsAsUsersWriteThem(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`data.status == 'shipped'`,
		`data.total > 50 && data.status == 'shipped'`,
		`data["status"] == "shipped"`,
		`data.status in ['shipped', 'sent']`,
		`data.customer.email.endsWith('@example.com')`,
		`data.items.exists(i, i.qty > 3)`,
		`data.items.all(i, i.qty >= 2)`,
		`data.items.filter(i, i.sku == 'a').size() == 1`,
		`data.items.map(i, i.qty) == [2, 3.5]`,
		`'x' in data.tags`,
		`data.flag`,
		`data.name.lowerAscii() == 'ada'`,
		`data.name.matches('^A.a$')`,
		`matches(data.name, data.pattern)`,
		`timestamp(data.ordered_at) < event.timestamp`,
		`event.timestamp - timestamp(data.ordered_at) > duration('24h')`,
		`has(data.status) && !has(data.missing)`,
		`has(data.missing) || data.total == 100`,
		`data.none == null`,
		`data.status == 'x' ? false : true`,
		`data.tags.join(',') == 'x,y'`,
		`// only big orders
		 data.total >= 100`,
	)
	checkMatches(t, update, false,
		`data.status == 'new'`, `data.flag == false`, `data.none != null`, `'status' in data.tags`,
	)
}

func TestNumbersAreExact(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`data.total == 100`, `100 == data.total`, `data.total == 100.0`, `data.total == 100u`,
		`data.total in [1, 100]`, `[data.total] == [100]`, `{'a': data.total} == {'a': 100.0}`,
		`data.big == 9007199254740993`, `9007199254740993 == data.big`,
		`data.big != 9007199254740992`, `9007199254740992 != data.big`,
		`data.big > 9007199254740992`, `9007199254740994 > data.big`,
		`data.big > 9007199254740992.0`, `data.big != 9007199254740992.0`,
		`data.huge > 18446744073709551615u`,
		`data.huge == number('123456789012345678901234567890')`,
		`data.huge - 1 == number('123456789012345678901234567889')`,
		`data.price == 0.1`, `0.1 == data.price`, `data.price * 3 == 0.3`, `0.3 == data.price * 3`,
		`data.tiny != 0.1`, `0.1 != data.tiny`, `data.tiny > 0.1`, `0.1 < data.tiny`,
		`data.tiny == 0.1000000000000000055511151231257827`,
		`data.total != 100.00000000000000000000000001`,
		`data.price in [0.2, 0.1]`,
		`data.count / 2 == 1.5`, `int(data.count) / 2 == 1`, `data.count % 2 == 1`, `data.negative % 2 == -0.5`,
		`-data.count == -3`, `-data.negative == 2.5`, `1 + data.count == 4`, `10 - data.count == 7`,
		`data.total * 1.2 == 120`, `2 * 1.5 == 3.0 * 1`,
		`size(data.items) == data.count - 1`, `data.items[data.count - 2].sku == 'b'`,
		`data.name.substring(data.count - 2) == 'da'`,
		`round(data.total / 3, 2) == 33.33`, `floor(data.negative) == -3`, `ceil(data.negative) == -2`,
		`round(data.negative) == -3`, `abs(data.negative) == 2.5`, `fixed(data.price, 2) == '0.10'`,
		`string(data.total) == '100.00'`, `int(data.negative) == -2`, `double(data.price) == 0.1`,
		`number(data.text_total) == data.total`,
		`event.duration_ms == 12`, `data.count < event.duration_ms`,
		`field_changed('count') && !field_changed('total')`, // 100.00 is 100
		`field_changed_to('count', 3)`, `field_changed_from('count', 2.0)`,
		`data.items.exists(i, i.qty + 1 == 3)`, `[data.count + 1].exists(n, n == 4 && 4 == n)`,
	)
	checkMatches(t, update, false,
		`data.total == 101`, `data.big == 9007199254740992`, `data.big == 9007199254740992.0`,
		`data.tiny == 0.1`, `data.price < 0.1`, `0.1 < data.price`,
	)
}

func TestQuotedLiteralIsAString(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, false,
		`data.total == '100'`, `'100' == data.total`, `data.total == '100.00'`, `data.text_total == 100`,
		`100 == data.text_total`, `data.total in ['100']`, `data.status == 1`, `data.items == 1`, `data.customer == []`,
		`data.none == 0`, `data.none == ''`, `data.flag == 1`, `data.flag == 'true'`,
	)
	checkMatches(t, update, true, `data.text_total == '100'`, `data.total != '100'`)
}

func TestEventFields(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`event.event_type == 'UPDATE'`, `event.entity_type == 'Order'`, `event.entity_id == '7'`, `event.id == '0192'`,
		`event.tenant_id == 'acme'`, `event.timestamp.getFullYear() == 2026`,
		`event.user_id == null`, `event.seq == null`, `!has(event.user_id) && has(event.tenant_id)`,
		`event.data.status == 'shipped'`, `event.changes.status.old == 'new'`,
		`event.actor_type == null && event.acting_for == null && event.schema_version == null && event.cdc_source == null`,
		`dyn(event).entity_id == '7'`,
	)
	checkMatches(t, insert, false, `event.tenant_id == 'x'`, `event.seq == 1`, `event.entity_id == '7'`)
	checkMatches(t, insert, true, `event.changes == null`, `event.tenant_id != 'x'`)
	checkMatches(t, custom, true, `event.data == null`, `size(data) == 0`, `!has_field('x')`)
}

func TestChangeFunctions(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`field_changed('status')`, `field_changed_to('status', 'shipped')`, `field_changed_from('status', 'new')`,
		`field_changed_from('status', 'new') && field_changed_to('status', 'shipped')`,
		`changes.status.old == 'new' && changes.status.new == 'shipped'`, `'status' in changes`, `!('total' in changes)`,
		`old.status == 'new'`, `field_changed('gone')`, `field_changed_to('gone', null)`, `field_changed('name')`,
		`has_field('email') == false`, `has_field('none')`, `has_field('name')`,
		`['status', 'total'].exists(f, field_changed(f))`, `[1].exists(event, field_changed('status'))`,
	)
	checkMatches(t, update, false,
		`field_changed('total')`, `field_changed('none')`, `field_changed('no_such_field')`,
		`field_changed_to('status', 'new')`, `field_changed_from('status', 'shipped')`, `field_changed_to('total', 100)`,
	)
	for _, e := range []func() *observer.Event{insert, remove, custom} {
		checkMatches(t, e, false, `field_changed('status')`, `field_changed_to('status', 'new')`, `field_changed_from('status', 'new')`)
		checkMatches(t, e, true, `changes == {}`)
	}
	checkMatches(t, insert, true, `old == {}`, `!has(old.status)`)
	checkMatches(t, remove, true, `old.status == 'old'`, `data.status == 'old'`)
}

func TestLoadErrorsSayWhatAndWhere(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		``:                               `column 1: the expression is empty`,
		"  \n":                           `the expression is empty`,
		`dta.status == 'x'`:              `column 1: unknown name "dta": did you mean "data"?`,
		`event.entty_id == '7'`:          `event has no field "entty_id": did you mean "entity_id"?`,
		`data.total = 1`:                 `(compare with ==)`,
		`data.a == 1 and data.b == 2`:    `column 13: syntax error: unexpected 'and' (write &&, ||, ! for and, or, not)`,
		`data.a ==`:                      `syntax error: unexpected end`,
		"data.a == 1 &&\n  datta.b == 2": `line 2, column 3: unknown name "datta"`,
		`'a' + 1`:                        `column 5: + cannot be applied to (string, int)`,
		`'a'`:                            `the condition gives a string, not true or false`,
		`1 + 1`:                          `the condition gives a number, not true or false`,
		`data`:                           `the condition gives an object, not true or false`,
		`event.tenant_id`:                `the condition gives a string or null, not true or false`,
		`event.duration_ms`:              `the condition gives a number or null, not true or false`,
		`event`:                          `the condition gives an event, not true or false`,
		`event.timestamp`:                `the condition gives a timestamp, not true or false`,
		`null`:                           `the condition gives null, not true or false`,
		`[1]`:                            `the condition gives a list, not true or false`,
		`field_changed()`:                `field_changed is written field_changed('status')`,
		`field_changed_to('status')`:     `field_changed_to is written field_changed_to('status', 'shipped')`,
		`field_changed(1)`:               `field_changed() does not take (int)`,
		`fieldchanged('status')`:         `did you mean "field_changed"?`,
		`data.name.matches('(')`:         `"(" is not a regular expression`,
		`data.name.matches('(abcdefghijklmnopqrstuvwxyz){900}')`: `is too large`,
		`timestamp('yesterday') > event.timestamp`:               `column 11: invalid timestamp argument`,
		`@event == event`: `syntax error`,
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200): `column`,
		`true || ` + strings.Repeat("x", 10_000):                     `column 1: expression code point size exceeds limit`,
		`[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))`:       `nesting limit`,
		`event{}`:              ``,
		"data.status == '\x00": `syntax error`,
	} {
		c, err := compileAlone(src)
		if err == nil {
			t.Errorf("%q compiled: %v", src, c)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q does not say %q in one line", src, err, want)
		}
	}
}

func TestEvaluationErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		`data.missing == 1`:                      `data.missing is not there: the event has no field "missing"; where it may be missing, test has(data.missing) first`,
		`data.customer.phone == '1'`:             `data.customer.phone is not there`,
		`data.missing.email == '1'`:              `data.missing is not there`,
		`data['missing'] == 1`:                   `there is no field "missing"`,
		`data.none + 1 > 0`:                      `data.none is null and + needs a value: test it first, as in ` + "`data.none != null && ...`",
		`1 < data.none`:                          `data.none is null and < needs a value`,
		`data.customer.none * 2 > 1`:             `data.customer.none is null`,
		`data.none.startsWith('x')`:              `startsWith() cannot be applied: a value is null or of the wrong kind (data.none`,
		`data.none.matches('x')`:                 `data.none is null and matches() needs a value`,
		`event.seq > 1`:                          `event.seq is null and > needs a value`,
		`data.name > 1`:                          `> cannot be applied to a string (data.name) and a number: convert one of them with number() or string()`,
		`data.total > '99'`:                      `> cannot be applied to a number (data.total) and a string`,
		`data.name + 1 == 'x'`:                   `+ cannot be applied to a string (data.name) and a number`,
		`data.flag && data.name`:                 `&& needs true or false on both sides`,
		`data.name`:                              `it gives a string, not true or false`,
		`data.none`:                              `it gives null, not true or false`,
		`data.total / 0 == 1`:                    `/: division by zero`,
		`data.total / (data.count - 3) == 1`:     `division by zero`,
		`data.absurd + 1 > 0`:                    `the result would need more than 1000 digits`,
		`data.unspeakable > 1`:                   `exponent of the number is out of range`,
		`int(data.huge) > 0`:                     `out of the range of a 64-bit integer`,
		`data.items[data.price] == 1`:            `cannot be a position`,
		`data.items[99] == 1`:                    `index out of bounds: 99`,
		`data.name.matches(data.odd_pattern)`:    `is not a regular expression`,
		`data.name in data.total`:                `in cannot be applied to a number (data.total)`,
		`fixed(data.total, 1000) == ''`:          `fixed() takes 0 to 100 decimal places`,
		`round(data.name) == 1`:                  `round() cannot be applied to a string (data.name)`,
		`number(data.name) == 1`:                 `number("Ada"): not a number`,
		`timestamp(data.name) > event.timestamp`: `Ada`,
	} {
		_, err := compile(t, src).Match(t.Context(), update())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", src, err, want)
			continue
		}
		if observer.ReasonOf(err) != observer.ReasonCondition || observer.Retryable(err) {
			t.Errorf("%s: reason %v, retryable %v", src, observer.ReasonOf(err), observer.Retryable(err))
		}
		if !strings.Contains(err.Error(), src) {
			t.Errorf("%s: error %v does not quote the condition", src, err)
		}
	}
}

func TestUpdateWithoutBeforeImageIsAnError(t *testing.T) {
	t.Parallel()
	for _, src := range []string{
		`field_changed('status')`, `field_changed_to('status', 'x')`, `field_changed_from('status', 'x')`,
		`old.status == 'x'`, `'status' in changes`,
	} {
		_, err := compile(t, src).Match(t.Context(), withoutBefore())
		if err == nil || observer.ReasonOf(err) != observer.ReasonCondition {
			t.Errorf("%s: %v", src, err)
			continue
		}
		for _, want := range []string{"before-image", "Order", "capture add", "object_data_before"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not mention %q", src, err, want)
			}
		}
	}
	checkMatches(t, withoutBefore, true, `has_field('status')`, `event.changes == null`, `data.status == 'shipped'`)
}

func TestUndecodableDataIsAnError(t *testing.T) {
	t.Parallel()
	e := &observer.Event{ID: "1", Operation: observer.Insert, Data: json.RawMessage(`{"a":`)}
	for _, src := range []string{`data.a == 1`, `has_field('a')`, `event.data == null`, `has(data.a)`} {
		if _, err := compile(t, src).Match(t.Context(), e); err == nil || observer.ReasonOf(err) != observer.ReasonCondition {
			t.Errorf("%s: %v", src, err)
		}
	}
	checkMatches(t, func() *observer.Event { return e }, true, `event.event_type == 'INSERT'`)
}

func TestHostileNumbersCostNothing(t *testing.T) {
	t.Parallel()
	checkMatches(t, update, true,
		`data.absurd > 1`, `1 < data.absurd`, `data.absurd == data.absurd`, `data.absurd != 1`, `data.absurd > data.huge`,
		`data.unspeakable == data.unspeakable`, `data.unspeakable != 1`, `data.absurd * data.absurd > data.absurd`,
		`ceil(1 / data.absurd) == 1`, `data.absurd < double('Infinity')`, `data.total != double('NaN')`,
	)
	checkMatches(t, update, false, `data.absurd < 1e308`, `data.absurd == data.unspeakable`, `data.total == double('NaN')`)
}

func TestRunawayExpressionIsStopped(t *testing.T) {
	t.Parallel()
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 2000), ",") + "]"
	e := &observer.Event{ID: "1", Operation: observer.Insert, Data: json.RawMessage(
		`{"l":` + list + `,"s":"` + strings.Repeat("a", 100_000) + `"}`)}
	for src, want := range map[string]string{
		`data.l.all(a, data.l.all(b, data.l.all(c, a + b + c > 0)))`: `does too much work`,
		`data.l.map(a, data.l.map(b, data.s + data.s)).size() == 0`:  `does too much work`,
		`data.l.map(a, data.s.split('')).size() == 0`:                `does too much work`,
		`data.l.map(a, data.s).join('').size() == 0`:                 `more than 16 MB`,
		`data.l.all(a, data.s == data.s)`:                            `does too much work`,
		`data.l.all(a, data.l == data.l)`:                            `does too much work`,
		`data.l.all(a, data.s.matches('(a*)*b') || true)`:            `does too much work`,
		`data.s.replace('a', data.s) != ''`:                          `more than 16 MB`,
		`data.l.all(a, data.s.replace('b', data.s) != '')`:           `does too much work`,
	} {
		_, err := compile(t, src).Match(t.Context(), e)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func TestDeeplyNestedDataIsCompared(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000)
	e := &observer.Event{
		ID: "1", Operation: observer.Update,
		Data: json.RawMessage(`{"a":` + deep + `,"b":` + deep + `}`), Before: json.RawMessage(`{"a":` + deep + `}`),
	}
	checkMatches(t, func() *observer.Event { return e }, true, `data.a == data.b`, `!field_changed('a')`)
}

func TestEndedContextIsNotAVerdict(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := compile(t, `data.total == 100`).Match(ctx, update())
	if !errors.Is(err, context.Canceled) || !observer.Retryable(err) {
		t.Errorf("Match on an ended context: %v, retryable %v", err, observer.Retryable(err))
	}
}

func TestConditionIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	compiler, err := condition.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	shared := update()
	var wg sync.WaitGroup
	for _, src := range []string{
		`field_changed('status') && data.items.exists(i, i.qty + data.count > 6)`,
		`data.missing == 1`, `data.none + 1 > 2`, `data.total.matches('x')`, `event.seq > 1`, `data.flag && data.name`,
	} {
		c, err := compiler.Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		want, wantErr := c.Match(t.Context(), update())
		for range 8 {
			wg.Go(func() {
				for range 50 {
					got, err := c.Match(t.Context(), shared)
					if got != want || (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
						t.Errorf("%s = %v, %v; want %v, %v", src, got, err, want, wantErr)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestStringIsTheSource(t *testing.T) {
	t.Parallel()
	const src = `data.total  ==  100 // exactly`
	if got := compile(t, src).String(); got != src {
		t.Errorf("String() = %q", got)
	}
}
