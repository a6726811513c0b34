package dev.lakehouse.envelope;

import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;

/**
 * Registers the format {@code lakehouse-envelope}: for each record exactly one row, whatever the record holds.
 *
 * <p>The table declares any of the columns of {@link EnvelopeColumn}. The value is parsed once, where the record is
 * deserialized, so the watermark, the routing of errors and the table all read plain columns.
 */
public final class EnvelopeFormatFactory implements DeserializationFormatFactory {
    public static final String IDENTIFIER = "lakehouse-envelope";

    public static final ConfigOption<String> ID_FIELD = ConfigOptions.key("id-field")
            .stringType()
            .defaultValue("event_id")
            .withDescription("The member of the JSON object that identifies an event.");
    public static final ConfigOption<String> TIME_FIELD = ConfigOptions.key("time-field")
            .stringType()
            .defaultValue("event_time")
            .withDescription("The member of the JSON object that says when it happened.");

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig options) {
        FactoryUtil.validateFactoryOptions(this, options);
        return new EnvelopeDecodingFormat(options.get(ID_FIELD), options.get(TIME_FIELD));
    }

    @Override
    public String factoryIdentifier() {
        return IDENTIFIER;
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(ID_FIELD, TIME_FIELD);
    }
}
