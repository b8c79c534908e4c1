package template_test

import (
	"strings"
	"testing"

	"github.com/fraiseql/observer/template"
)

func TestURLEscapesForThePlace(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.URL, map[string]string{
		`https://example.com/static`:                                       `https://example.com/static`,
		`https://example.com/orders/{{ data.id }}`:                         `https://example.com/orders/42`,
		`https://example.com/o/{{ data.path }}/x`:                          `https://example.com/o/..%2Fadmin%3Fx=1%23y%252f/x`,
		`https://example.com/o/{{ data.space }}`:                           `https://example.com/o/a%20b&c=d+%C3%A9`,
		`https://example.com/o/v{{ data.dots }}`:                           `https://example.com/o/v..`,
		`https://example.com/{{ data.id }}-{{ data.none }}`:                `https://example.com/42-`,
		`https://example.com/o?q={{ data.space }}&{{ data.path }}=1`:       `https://example.com/o?q=a+b%26c%3Dd%2B%C3%A9&..%2Fadmin%3Fx%3D1%23y%252f=1`,
		`https://example.com?q={{ data.dots }}/`:                           `https://example.com?q=../`,
		`https://example.com/o#{{ data.space }}?{{ data.path }}`:           `https://example.com/o#a%20b%26c%3Dd%2B%C3%A9?..%2Fadmin%3Fx%3D1%23y%252f`,
		`HTTP://{{ data.host }}.example.com:8080/`:                         `HTTP://shop-1.example.com:8080/`,
		`https://{{ data.host }}`:                                          `https://shop-1`,
		`https://a-{{ data.host }}{{ data.id }}.example.com/{{ data.id }}`: `https://a-shop-142.example.com/42`,
		`https://u:p@{{ data.host }}.example.com/`:                         `https://u:p@shop-1.example.com/`,
		`https://example.com/{{ data.lines }}/{{ data.nul }}`:              `https://example.com/a%0D%0AX-Evil:%201/a%00b`,
		`https://example.com/{{ data.total }}?t={{ event.timestamp }}`:     `https://example.com/100.00?t=2026-11-23T08%3A00%3A00.123Z`,
		`https://example.com/@{{ data.email }}`:                            `https://example.com/@ada@example.com`,
		`{{ data.url }}`:                                                   `https://hooks.example.com/in?k=v`,
		`{{ data.base }}/{{ data.path }}`:                                  `https://hooks.example.com/in/..%2Fadmin%3Fx=1%23y%252f`,
		`{{ data.base }}?x={{ data.space }}`:                               `https://hooks.example.com/in?x=a+b%26c%3Dd%2B%C3%A9`,
	})
}

func TestURLValuesCannotLeaveTheirPlace(t *testing.T) {
	t.Parallel()
	checkRefuses(t, template.URL, map[string]string{
		`https://example.com/o/{{ data.dots }}/x`:            `would change the path`,
		`https://example.com/o/{{ data.dots }}`:              `would change the path`,
		`https://example.com/o/{{ data.dot }}?x=1`:           `would change the path`,
		`https://example.com/o/{{ data.dot }}{{ data.dot }}`: `would change the path`,
		`https://example.com/o/.{{ data.dot }}`:              `would change the path`,
		`https://example.com/o/{{ data.none }}`:              `leaves a segment of the path empty`,
		`https://example.com/o/{{ data.empty }}/x`:           `leaves a segment of the path empty`,
		`https://{{ data.badhost }}/`:                        `cannot be part of a host name`,
		`https://{{ data.email }}/`:                          `cannot be part of a host name`,
		`https://{{ data.empty }}.example.com/`:              `cannot be part of a host name`,
		`https://{{ data.path }}.example.com/`:               `cannot be part of a host name`,
		`{{ data.js }}`:                                      `not an absolute http or https URL`,
		`{{ data.id }}`:                                      `not an absolute http or https URL`,
		`{{ data.none }}`:                                    `not an absolute http or https URL`,
		`{{ data.creds }}`:                                   `with credentials`,
		`{{ data.lines }}`:                                   `control character`,
		`{{ data.url }}/x`:                                   `the template goes on after it`,
		`{{ 'https://example.com:99999x/' }}`:                `not a URL`,
		`{{ '//example.com/x' }}`:                            `not an absolute http or https URL`,
		`{{ 'https:///x' }}`:                                 `not an absolute http or https URL`,
		`{{ 'https://a.com\\@evil.com/' }}`:                  `backslash`,
	})
}

func TestURLLoadErrors(t *testing.T) {
	t.Parallel()
	checkLoadErrors(t, template.URL, map[string]string{
		``:                                     `the URL is empty`,
		`example.com/{{ data.id }}`:            `begins with http:// or https://`,
		`ftp://example.com/`:                   `begins with http:// or https://`,
		`{{ data.scheme }}://example.com/`:     `goes on with /, ? or #`,
		`{{ data.base }}{{ data.id }}`:         `goes on with /, ? or #`,
		`http{{ data.s }}://example.com/`:      `begins with http:// or https://`,
		`https://{{ data.user }}@example.com/`: `credentials`,
		`https://u:{{ data.p }}@example.com/`:  `credentials`,
		`https://example.com:{{ data.port }}/`: `the port`,
		`https://[::{{ data.id }}]/`:           `the IP address`,
		`https://`:                             `not an absolute http or https URL`,
		`https://example.com/a b`:              `space`,
		"https://example.com/\n":               `control character`,
		`https://example.com/%zz`:              `invalid URL escape`,
		`https://example.com:port/`:            `not a URL`,
	})
}

func TestURLErrorsDoNotRepeatTheURL(t *testing.T) {
	t.Parallel()
	for _, src := range []string{`https://example.com/s3cret/ x`, `https://example.com/s3cret/%zz`, `https://example.com:x/s3cret`} {
		_, err := template.Compile(src, template.URL)
		if err == nil {
			t.Errorf("%s compiled", src)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
}
