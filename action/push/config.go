package push

import "github.com/fraiseql/observer"

// Config is the table of a push action. It has Credentials or CredentialsFile;
// exactly one of Token, Topic and Condition; and at least one of TitleTemplate,
// BodyTemplate and Data.
type Config struct {
	// Credentials is the key of a service account as Google gives it out: a JSON
	// document.
	Credentials observer.Secret `toml:"credentials"`
	// CredentialsFile is the absolute path of a file with that document. It is
	// read when the configuration is loaded.
	CredentialsFile string `toml:"credentials_file"`
	// ProjectID is the Firebase project; that of the credentials unless set.
	ProjectID string `toml:"project_id"`
	// Token is the registration token of one installation of an app; a template.
	Token string `toml:"token"`
	// Topic is the name of a topic that apps subscribe to; a template.
	Topic string `toml:"topic"`
	// Condition combines topics, as in 'a' in topics && 'b' in topics. It is fixed
	// text: no value of an event can widen it.
	Condition string `toml:"condition"`
	// TitleTemplate and BodyTemplate are what the notification shows. Without
	// either the message is for the app alone.
	TitleTemplate string `toml:"title_template"`
	BodyTemplate  string `toml:"body_template"`
	// Data are what the app gets; the values are templates.
	Data map[string]string `toml:"data"`
	// APIURL is where the API is; https://fcm.googleapis.com unless set.
	APIURL string `toml:"api_url"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
