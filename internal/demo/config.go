package demo

import "strings"

// The observers of the demo. Each has an endpoint of its name.
const (
	everyChange = "order-events"
	created     = "order-created"
	shipped     = "order-shipped"
	cancelled   = "order-cancelled"
)

// configuration is the file a user would write, below the sections about the
// database.
func configuration(sections, receiver string) string {
	return sections + strings.ReplaceAll(`
[network]
profile = "development"          # the receiver of the demo is on this machine

[breaker]
failure_rate = 90                # below it lies the receiver that refuses now and then on purpose

[[observers]]                    # every change, to a receiver that answers at once
name = "order-events"
entity = "Order"

[[observers.actions]]
type = "webhook"
url = "$receiver/order-events"

[[observers]]                    # a condition, and a slow receiver
name = "order-shipped"
entity = "Order"
event_type = "UPDATE"
condition = "field_changed_to('status', 'shipped')"

[[observers.actions]]
type = "webhook"
url = "$receiver/order-shipped"

[[observers]]                    # a receiver that answers 503 now and then: retries
name = "order-created"
entity = "Order"
event_type = "INSERT"
retry = { max_attempts = 5, initial_delay_ms = 50 }

[[observers.actions]]
type = "webhook"
url = "$receiver/order-created"
body_template = '{"order": {{ event.entity_id }}, "version": {{ data.version }}, "total": {{ data.total }}}'

[[observers]]                    # a receiver that refuses: dead letters
name = "order-cancelled"
entity = "Order"
event_type = "DELETE"

[[observers.actions]]
type = "webhook"
url = "$receiver/order-cancelled"
`, "$receiver", receiver)
}
