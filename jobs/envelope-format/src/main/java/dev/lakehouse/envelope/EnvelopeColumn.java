package dev.lakehouse.envelope;

import java.util.Arrays;
import java.util.Locale;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.LocalZonedTimestampType;
import org.apache.flink.table.types.logical.RowType;

/** The columns that a table may declare, by name in lower case. */
enum EnvelopeColumn {
    /** The value as it came; null for a record without one. */
    PAYLOAD(LogicalTypeRoot.VARBINARY, "BYTES"),
    /** The same bytes as text, not copied; null unless the record can be placed, so it is always well-formed. */
    PAYLOAD_TEXT(LogicalTypeRoot.VARCHAR, "STRING"),
    /** The id; null unless the record can be placed. */
    EVENT_ID(LogicalTypeRoot.VARCHAR, "STRING"),
    /** The time in microseconds; 1970 for a record that can't be placed, which moves no watermark. */
    EVENT_TIME(LogicalTypeRoot.TIMESTAMP_WITH_LOCAL_TIME_ZONE, "TIMESTAMP_LTZ(6)"),
    /** The time in milliseconds, as Flink wants it for a watermark. */
    ROW_TIME(LogicalTypeRoot.TIMESTAMP_WITH_LOCAL_TIME_ZONE, "TIMESTAMP_LTZ(3)"),
    /** The name of an {@link ErrorType}, or null. */
    ERROR_TYPE(LogicalTypeRoot.VARCHAR, "STRING"),
    /** The same in a sentence, or null. */
    ERROR_MESSAGE(LogicalTypeRoot.VARCHAR, "STRING");

    private static final long MICROS_PER_MILLI = 1000L;

    private final LogicalTypeRoot root;
    private final String sqlType;

    EnvelopeColumn(LogicalTypeRoot root, String sqlType) {
        this.root = root;
        this.sqlType = sqlType;
    }

    /** The column that a field of a table's row declares. */
    static EnvelopeColumn of(RowType.RowField field) {
        for (EnvelopeColumn column : values()) {
            if (column.columnName().equals(field.getName())) {
                column.check(field.getType());
                return column;
            }
        }
        throw new ValidationException("The format " + EnvelopeFormatFactory.IDENTIFIER + " has no column "
                + field.getName() + ". It has: "
                + String.join(", ", Arrays.stream(values()).map(EnvelopeColumn::columnName).toList()) + ".");
    }

    private String columnName() {
        return name().toLowerCase(Locale.ROOT);
    }

    private void check(LogicalType type) {
        boolean precise = !(type instanceof LocalZonedTimestampType time)
                || time.getPrecision() == (this == ROW_TIME ? 3 : 6);
        if (!type.is(root) || !precise) {
            throw new ValidationException("The column " + columnName() + " of the format "
                    + EnvelopeFormatFactory.IDENTIFIER + " has the type " + sqlType + ", not "
                    + type.asSummaryString() + ".");
        }
    }

    /** The column's value in Flink's internal form. */
    Object value(byte[] payload, Envelope envelope) {
        boolean placed = envelope.errorType() == null;
        return switch (this) {
            case PAYLOAD -> payload;
            case PAYLOAD_TEXT -> placed ? StringData.fromBytes(payload) : null;
            case EVENT_ID -> envelope.eventId();
            case EVENT_TIME -> eventTime(envelope.eventMicros());
            case ROW_TIME -> TimestampData.fromEpochMillis(Math.floorDiv(envelope.eventMicros(), MICROS_PER_MILLI));
            case ERROR_TYPE -> placed ? null : StringData.fromString(envelope.errorType().name());
            case ERROR_MESSAGE -> placed ? null : StringData.fromString(envelope.errorMessage());
        };
    }

    private static TimestampData eventTime(long micros) {
        return TimestampData.fromEpochMillis(
                Math.floorDiv(micros, MICROS_PER_MILLI), (int) Math.floorMod(micros, MICROS_PER_MILLI) * 1000);
    }
}
