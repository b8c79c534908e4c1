package sms

import "github.com/fraiseql/observer"

// Config is the table of an sms action. It has AuthToken, or APIKey and
// APIKeySecret; From or MessagingServiceSID; To or ToTemplate.
type Config struct {
	// AccountSID is the account that sends; required.
	AccountSID string `toml:"account_sid"`
	// AuthToken is the password of the account.
	AuthToken observer.Secret `toml:"auth_token"`
	// APIKey is the SID of an API key of the account, which can be withdrawn
	// alone.
	APIKey string `toml:"api_key"`
	// APIKeySecret is the password of the API key.
	APIKeySecret observer.Secret `toml:"api_key_secret"`
	// From is the number, short code or name that sends; a template.
	From string `toml:"from"`
	// MessagingServiceSID is the messaging service that chooses the sender.
	MessagingServiceSID string `toml:"messaging_service_sid"`
	// To is the recipient's number with the country's code, as in +4915112345678;
	// a template.
	To string `toml:"to"`
	// ToTemplate is another word for To.
	ToTemplate string `toml:"to_template"`
	// BodyTemplate is the text; required.
	BodyTemplate string `toml:"body_template"`
	// APIURL is where the API is, for providers that offer the same one;
	// https://api.twilio.com unless set. What follows is
	// /2010-04-01/Accounts/{account_sid}/Messages.json.
	APIURL string `toml:"api_url"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
