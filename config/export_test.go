package config

// What tests need to see every key.
var (
	NewActionConfig = newActionConfig
	ActionTypes     = actionTypes
	EditDistance    = editDistance
	Expand          = expand
)
