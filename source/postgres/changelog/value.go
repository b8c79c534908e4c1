package changelog

import "fmt"

// ValueFunction is the function in our own schema that turns any value into jsonb
// without ever failing. The functions of captured tables call it when the plain
// conversion of a row has failed.
const ValueFunction = "capture_value"

func valueDefinition(o Options) string {
	return fmt.Sprintf("CREATE OR REPLACE FUNCTION %s(anyelement) RETURNS jsonb LANGUAGE plpgsql STABLE AS %s",
		o.own(ValueFunction), QuoteBody(valueBody))
}

// valueBody gives the text of what has no form in jsonb, and the length of what has
// no text either.
const valueBody = `BEGIN
	RETURN pg_catalog.to_jsonb($1);
EXCEPTION WHEN OTHERS THEN
	BEGIN
		RETURN pg_catalog.to_jsonb($1::pg_catalog.text);
	EXCEPTION WHEN OTHERS THEN
		BEGIN
			RETURN pg_catalog.jsonb_build_object('omitted_bytes', pg_catalog.octet_length($1::pg_catalog.text));
		EXCEPTION WHEN OTHERS THEN
			RETURN pg_catalog.jsonb_build_object('omitted_bytes', pg_catalog.pg_column_size($1));
		END;
	END;
END`
