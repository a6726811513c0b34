package dev.lakehouse.envelope;

/** Why a record can't be placed, as far as the record alone can tell. The order is the order of the checks. */
public enum ErrorType {
    /** The record has no value. */
    NULL_PAYLOAD,
    /** The value is not UTF-8. */
    INVALID_ENCODING,
    /** The value is not one JSON object and nothing else. */
    INVALID_JSON,
    /** The id or the time is absent or null. */
    MISSING_FIELD,
    /** The id or the time is there and can't be used. */
    INVALID_FIELD
}
