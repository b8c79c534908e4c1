package config

// Editable are the parts of the requests of an action type, as they are stored,
// that a person may change before a dead letter is run again: what is sent. What
// is not among them says, for people, where the first attempt went, and stays.
// So nothing of a type that is not here can be changed.
func Editable(actionType string) []string {
	switch actionType {
	case "webhook":
		return []string{"content_type", "body"}
	case "slack":
		return []string{"text"}
	case "email":
		return []string{"message_id", "date", "subject", "text", "html"}
	case "log":
		return []string{"message"}
	case "sms":
		return []string{"body"}
	case "push":
		return []string{"title", "body", "data"}
	case "teams":
		return []string{"title", "text", "card"}
	case "discord":
		return []string{"text", "embeds"}
	case "database":
		return []string{"params"}
	case "cache":
		return []string{"key"}
	case "nats", "search":
		return []string{"body"}
	}
	return nil
}
