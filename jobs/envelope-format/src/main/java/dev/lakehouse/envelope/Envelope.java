package dev.lakehouse.envelope;

import org.apache.flink.table.data.StringData;

/**
 * What a record's value says about itself: either an id and a time, or why it can't be placed.
 *
 * @param eventId the id, or null
 * @param eventMicros the time in microseconds since 1970, UTC; 0 for a record that can't be placed
 * @param errorType why it can't be placed, or null
 * @param errorMessage the same in a sentence, or null
 */
public record Envelope(StringData eventId, long eventMicros, ErrorType errorType, String errorMessage) {
    static Envelope placed(StringData eventId, long eventMicros) {
        return new Envelope(eventId, eventMicros, null, null);
    }

    static Envelope refused(Unplaceable reason) {
        return new Envelope(null, 0, reason.type(), reason.getMessage());
    }
}
