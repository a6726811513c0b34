package dev.lakehouse.envelope;

import java.util.List;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** The format while a statement is planned. */
final class EnvelopeDecodingFormat implements DecodingFormat<DeserializationSchema<RowData>> {
    private final String idField;
    private final String timeField;

    EnvelopeDecodingFormat(String idField, String timeField) {
        this.idField = idField;
        this.timeField = timeField;
    }

    @Override
    public DeserializationSchema<RowData> createRuntimeDecoder(
            DynamicTableSource.Context context, DataType physicalDataType) {
        RowType row = (RowType) physicalDataType.getLogicalType();
        List<EnvelopeColumn> columns = row.getFields().stream().map(EnvelopeColumn::of).toList();
        return new EnvelopeDeserializationSchema(
                idField, timeField, columns, context.createTypeInformation(physicalDataType));
    }

    @Override
    public ChangelogMode getChangelogMode() {
        return ChangelogMode.insertOnly();
    }
}
