package changelog

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	// WakeTrigger is the name of the wake-up trigger on the log.
	WakeTrigger = "fraiseql_wake_up"

	wakeFunction  = "changelog_wake_up"
	settingTable  = "tb_setting"
	notifySetting = "notify"
)

// wake makes the wake-up trigger. Its key is an argument, so that one function
// serves every log.
func wake(o Options) []string {
	mode := o.Notify
	if mode == "" {
		mode = NotifyAuto
	}
	return []string{
		fmt.Sprintf("INSERT INTO %s (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
			o.own(settingTable), QuoteText(notifySetting), QuoteText(string(mode))),
		wakeDefinition(o, mode),
		fmt.Sprintf("DROP TRIGGER IF EXISTS %s ON %s", WakeTrigger, o.Log),
		fmt.Sprintf("CREATE TRIGGER %s AFTER INSERT ON %s\n\tFOR EACH STATEMENT EXECUTE FUNCTION %s('%d')",
			WakeTrigger, o.Log, o.own(wakeFunction), WakeKey(o.Log)),
	}
}

func wakeDefinition(o Options, mode Notify) string {
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s() RETURNS trigger LANGUAGE plpgsql AS %s", o.own(wakeFunction), QuoteBody(wakeBody(mode)))
}

// wakeMark begins the line of the function that says its mode.
const wakeMark = "-- notify: "

// wakeBody qualifies every name, which is cheaper than a search path of its own.
// An error in here only costs the reader a little time, and the writer nothing.
func wakeBody(mode Notify) string {
	head := wakeMark + string(mode) + "\n"
	notify := "\tPERFORM pg_catalog.pg_notify('" + Channel + "', '');\n"
	switch mode {
	case NotifyNever:
		return head + "BEGIN\n\tRETURN NULL;\nEND"
	case NotifyAlways:
	default:
		head += "-- A transaction that has notified cannot be prepared.\n"
		notify = "\tIF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0' THEN\n\t" + notify + "\tEND IF;\n"
	}
	return head + `BEGIN
	-- Whoever gets the lock knows that the reader is awake, and keeps it so.
	IF pg_catalog.pg_try_advisory_xact_lock_shared(TG_ARGV[0]::pg_catalog.int8) THEN
		RETURN NULL;
	END IF;
` + notify + `	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END`
}

// modeOf reads the mode from the text of a wake-up function.
func modeOf(body string) Notify {
	_, rest, _ := strings.Cut(body, wakeMark)
	mode, _, _ := strings.Cut(rest, "\n")
	return Notify(mode)
}

// wakeArgument is how PostgreSQL shows the argument of the trigger.
func wakeArgument(n Name) string { return strconv.FormatInt(WakeKey(n), 10) }
